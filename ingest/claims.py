"""Devices that two connections send for: both are kept, and people are told.

A device that comes on another connection is, as a rule, the same machine, connected anew: then the first
connection says nothing more of it. Where it does, two claim the device: a copied configuration, a stolen
certificate, or a gateway that spreads its machines over several connections.

Each sink makes `Sightings` of what it writes: which device was on which connection, when that is new and once
in a while after. A server has one `Claims`, however many workers it has, which holds them against each other.
Of each device it knows from when to when it was seen on its last connections. Seen is less than sent; so if
the spans of two connections overlap, what was sent on them does, in whichever order sinks report it.

All that is remembered is bounded; the device first heard of is forgotten first.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter

from parser.parsed import ParsedBlock
from parser.senders import Pairs

WINDOW_S: Final = 300
"""Silence after which a connection has left its devices, and time between two tellings of a device."""

AGAIN_S: Final = 60
"""Time between two sightings of a device that stays where it is."""

MAX_DEVICES: Final = 20_000
MAX_TOLD: Final = 1_000
"""Devices told of within the window; of more nothing is said."""

AT_ONCE: Final = 200
"""Sightings in one report, which is one line of bounded length."""

_MAX_WAITING: Final = 1_000
_OF_ONE: Final = 50
"""Sightings on one connection in one block, so that who makes up names takes no more than a share."""

_CONNECTIONS: Final = 4
_SKEW_US: Final = 1_000_000
"""What stamps of two workers may differ by at one moment: a block gets its own when its loop comes to it."""

_SHOWN_S: Final = 1.5 * WINDOW_S
"""For how long a device is shown as claimed twice: until it is told of again, if it still is."""

_WINDOW_US: Final = WINDOW_S * 1_000_000
_AGAIN_US: Final = AGAIN_S * 1_000_000

_log = structlog.get_logger("ingest")


class Sighting(msgspec.Struct, frozen=True, array_like=True):
    """A device on a connection at a time."""

    device_id: str
    connection: int
    stamp_us: int


Heard = Callable[[Sequence[Sighting]], None]
"""Who wants to know of sightings."""


class _Seen(NamedTuple):
    connection: int
    stamp_us: int


class Sightings:
    """What one sink has seen, and not reported yet."""

    def __init__(self) -> None:
        self._last: dict[str, _Seen] = {}
        self._new: list[Sighting] = []

    def take(self) -> list[Sighting]:
        """What was not given yet, `AT_ONCE` at most."""
        taken, self._new = self._new[:AT_ONCE], self._new[AT_ONCE:]
        return taken

    def note(self, parsed: ParsedBlock) -> None:
        """Take notice of who sent what in a block.

        What is too much to be reported stays news, and is noted when it comes again.
        """
        stamp_us, get = parsed.block.stamp_us, self._last.get
        due_us = stamp_us - _AGAIN_US
        for connection, devices in Pairs.of(parsed.block, parsed.columns).by_connection():
            news = [
                device
                for device in devices
                if (seen := get(device)) is None or seen.connection != connection or seen.stamp_us <= due_us
            ]
            for device in news[: min(_OF_ONE, _MAX_WAITING - len(self._new))]:
                self._see(device, connection, stamp_us)

    def _see(self, device: str, connection: int, stamp_us: int) -> None:
        if device not in self._last and len(self._last) >= MAX_DEVICES:
            del self._last[next(iter(self._last))]
        self._last[device] = _Seen(connection, stamp_us)
        self._new.append(Sighting(device, connection, stamp_us))


class _Span(NamedTuple):
    """From when to when a device was seen on a connection."""

    first_us: int
    last_us: int

    def along(self, stamp_us: int) -> "_Span":
        """The span that this time is in as well; a new one after a long silence."""
        if stamp_us - self.last_us > _WINDOW_US:
            return _Span(stamp_us, stamp_us)
        return _Span(min(self.first_us, stamp_us), max(self.last_us, stamp_us))

    def overlaps(self, other: "_Span", skew_us: int) -> bool:
        """Whether either went on after the other had begun, and neither has ended long ago."""
        return (
            self.first_us + skew_us < other.last_us
            and other.first_us + skew_us < self.last_us
            and abs(self.last_us - other.last_us) < _WINDOW_US
        )


class _Line(NamedTuple):
    """A connection of one of the workers."""

    worker: int
    connection: int


class Claims:
    """The devices of one server that are claimed twice: logged, counted, and shown."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._spans: dict[str, dict[_Line, _Span]] = {}
        """By device and connection, of which the one heard last is last."""

        self._told: dict[str, int] = {}
        self._shown: dict[str, float] = {}
        self._count = Counter(
            "headrace_devices_claimed_twice", "Times two connections sent for a device", registry=registry
        )

    def heard(self, sightings: Iterable[Sighting], worker: int = 0) -> None:
        """Take notice of what the sink of a worker has seen, and tell of what is news."""
        for sighting in sightings:
            other = self._other(sighting, worker)
            if other is not None and self._is_news(sighting):
                self._tell(sighting.device_id, other, sighting.connection)

    @property
    def shown(self) -> frozenset[str]:
        """Devices that two connections have sent for lately."""
        now = time.monotonic()
        for device in [device for device, until in self._shown.items() if until < now]:
            del self._shown[device]
        return frozenset(self._shown)

    def _other(self, sighting: Sighting, worker: int) -> int | None:
        """Another connection that sends for the device at the same time."""
        device, stamp_us = sighting.device_id, sighting.stamp_us
        if device not in self._spans and len(self._spans) >= MAX_DEVICES:
            del self._spans[next(iter(self._spans))]
        spans, line = self._spans.setdefault(device, {}), _Line(worker, sighting.connection)
        span = spans.pop(line, _Span(stamp_us, stamp_us)).along(stamp_us)
        if len(spans) >= _CONNECTIONS:
            del spans[next(iter(spans))]
        others = [
            other.connection
            for other, theirs in spans.items()
            if span.overlaps(theirs, 0 if other.worker == worker else _SKEW_US)
        ]
        spans[line] = span
        return others[-1] if others else None

    def _is_news(self, sighting: Sighting) -> bool:
        device, stamp_us = sighting.device_id, sighting.stamp_us
        if stamp_us - self._told.get(device, -_WINDOW_US) < _WINDOW_US:
            return False
        self._told.pop(device, None)
        while self._told and stamp_us - next(iter(self._told.values())) >= _WINDOW_US:
            del self._told[next(iter(self._told))]
        if len(self._told) >= MAX_TOLD:
            return False
        self._told[device] = stamp_us
        return True

    def _tell(self, device: str, *connections: int) -> None:
        first, second = sorted(connections)  # a connection's number is the time of its beginning
        self._shown[device] = time.monotonic() + _SHOWN_S
        self._count.inc()
        _log.warning("device_claimed_twice", device=device, first=first, second=second)
