"""Devices that two connections send for: both are kept, and people are told.

A device belongs to the connection that it was heard on last. Another one that it comes on is, as a rule, the
same machine, connected anew: then the first one says nothing more. If it does, within `WINDOW_S`, two claim
the device: a copied configuration, a stolen certificate, or a gateway that spreads its machines over several
connections.

A device is told of once in `WINDOW_S`. What is remembered is bounded; the device first heard of is forgotten
first.
"""

from typing import Final

import msgspec

from parser.parsed import ParsedBlock
from parser.senders import Pairs

WINDOW_S: Final = 300
MAX_DEVICES: Final = 20_000
MAX_TOLD: Final = 1_000
"""Devices told of within the window; of more nothing is said."""

AT_ONCE: Final = 100
"""Claims in one report, which is one line of bounded length."""

_WINDOW_US: Final = WINDOW_S * 1_000_000


class Claim(msgspec.Struct, frozen=True):
    """A device that two connections send for."""

    device_id: str
    connections: tuple[int, int]
    """The one that was heard first, and the other."""


class Claims:
    """What one sink has seen lately."""

    def __init__(self) -> None:
        self._on: dict[str, int] = {}
        """The connection that each device was last heard on."""

        self._left: dict[str, tuple[int, int]] = {}
        """The one before, of those that changed, and when they did."""

        self._told: dict[str, int] = {}
        self._new: list[Claim] = []

    def take(self) -> list[Claim]:
        """Claims that were not given yet, `AT_ONCE` at most."""
        taken, self._new = self._new[:AT_ONCE], self._new[AT_ONCE:]
        return taken

    def note(self, parsed: ParsedBlock) -> None:
        """Take notice of who sent what in a block."""
        for connection, devices in Pairs.of(parsed.block, parsed.columns).by_connection():
            for device in [device for device in devices if self._on.get(device) != connection]:
                if device in self._on:
                    self._move(device, connection, parsed.block.stamp_us)
                else:
                    self._remember(device, connection)

    def _remember(self, device: str, connection: int) -> None:
        if len(self._on) >= MAX_DEVICES:
            forgotten = next(iter(self._on))
            del self._on[forgotten]
            self._left.pop(forgotten, None)
        self._on[device] = connection

    def _move(self, device: str, connection: int, stamp_us: int) -> None:
        """The device comes on another connection than last time; a claim if it had left that one."""
        last = self._on[device]
        before, changed_us = self._left.get(device, (0, 0))
        twice = before == connection and stamp_us - changed_us <= _WINDOW_US
        if twice and self._is_news(device, stamp_us):
            self._new.append(Claim(device, (connection, last)))
        self._on[device], self._left[device] = connection, (last, stamp_us)

    def _is_news(self, device: str, stamp_us: int) -> bool:
        if stamp_us - self._told.get(device, -_WINDOW_US) < _WINDOW_US:
            return False
        self._told.pop(device, None)
        while self._told and stamp_us - next(iter(self._told.values())) >= _WINDOW_US:
            del self._told[next(iter(self._told))]
        if len(self._told) >= MAX_TOLD:
            return False
        self._told[device] = stamp_us
        return True
