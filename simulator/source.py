"""Where records come from: machines, some of what they say spoiled, all of it counted."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from simulator.fleet import Fleet
from simulator.garbage import ALL_KINDS, Kind, Spoiler
from simulator.machine import Indices
from simulator.truth import Tally
from simulator.wire import RECORD_END, Verdict


class Record(NamedTuple):
    """One record, ready for the wire."""

    device: int
    """Index of the device."""

    number: int
    """The device's running number, from 1."""

    data: bytes
    """With its delimiter, or without where the stream is to end like that."""

    kind: Kind | None
    """What is wrong with it, if anything is."""

    @property
    def verdict(self) -> Verdict:
        """What a server has to make of it."""
        return Verdict.VALID if self.kind is None else self.kind.verdict


class Source:
    """Makes the records of a fleet."""

    def __init__(
        self, fleet: Fleet, seed: int, *, malformed: float = 0.0, kinds: Iterable[Kind] = ALL_KINDS
    ) -> None:
        """Of `malformed`, a share from 0 to 1, make nonsense of these kinds."""
        devices = len(fleet.names)
        self.tally = Tally(devices)
        self._fleet = fleet
        self._spoiler = Spoiler(devices, seed, malformed, kinds)

    def make(self, which: Indices, at_s: float) -> list[Record]:
        """The next record of these devices, none of them twice, counted as sent at this time."""
        readings = self._fleet.advance(which)
        data = self._fleet.encode(readings)
        spoiled = self._spoiler.spoil(data, readings)
        self.tally.add(readings, spoiled, at_s)
        kinds = map(spoiled.get, range(len(data)))
        fields = zip(readings.device.tolist(), readings.number.tolist(), data, kinds, strict=True)
        return list(map(Record._make, fields))

    def cut_off(self, device: int, at_s: float) -> Record:
        """The next record of a device, cut in the middle; the connection must be reset behind it."""
        readings = self._fleet.advance(np.array([device]))
        data = self._fleet.encode(readings)[0]
        self.tally.add(readings, {0: Kind.CUT_OFF}, at_s)
        return Record(device, int(readings.number[0]), data[: len(data) // 2], Kind.CUT_OFF)

    def unterminated(self, device: int, at_s: float) -> Record:
        """The next record of a device, whole but for its delimiter; a clean close must follow."""
        readings = self._fleet.advance(np.array([device]))
        data = self._fleet.encode(readings)[0].removesuffix(RECORD_END)
        self.tally.add(readings, {}, at_s)
        self.tally.unterminated += 1
        return Record(device, int(readings.number[0]), data, None)
