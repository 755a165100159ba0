"""Who is let in: whether the address may connect, and whether there is a place for it.

Places are counted from the moment a connection is accepted, before anything is spent on it, until its
transport is gone: in all, for each address and, where one is proved, for each identity. A handshake of TLS
takes one of a second kind until it is over, in all and for each address. How often an address connects is
counted too, whether it stays or not; who was refused for that may try again.

    not_allowed          the address is in none of the networks of `allow`
    too_many_handshakes  as many are under way as there may be, in all or of the address
    too_many             `max_connections`, or as many as there are file descriptors for
    too_many_of_address  `max_connections_per_address`
    too_often            `max_connects_per_minute`

Each costs a look-up or two, however many connections there are.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Generic, Protocol, TypeVar

import structlog

from ingest.addresses import counted_as, parsed, parsed_network
from ingest.buckets import Bucket
from ingest.descriptors import room_for
from ingest.metrics import IngestMetrics
from ingest.reasons import WhyRefused
from ingest.settings import IngestSettings
from ingest.sparing import SparingLog

_MINUTE_S: Final = 60.0
_MOST_HANDSHAKES: Final = 2_000
"""Under way at one time. For who proves nothing yet the library keeps messages of up to 100 KiB."""

_MOST_HANDSHAKES_OF_ADDRESS: Final = _MOST_HANDSHAKES // 4
"""So that no address takes the places of all others, though a whole plant may have one, behind a balancer or
NAT. A core does 500 to 650 handshakes a second (1.5 to 2 ms each), so a plant that comes back at once reaches
this bound only where its machines take 0.75 s or more to answer. Did they all take the 5 s of
`handshake_timeout_s`, still 100 a second would come in, 10 000 in two minutes: who is refused tries again."""

_Key = TypeVar("_Key", bytes, str)

_log = structlog.get_logger("ingest")


class Visitor(Hashable, Protocol):
    """What is known of a connection at the door."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        ...

    @property
    def identity(self) -> str | None:
        """Who it proved to be."""
        ...


class _Tally(Generic[_Key]):
    """Who is counted under which key; nothing is kept of a key without any.

    There may be any number of addresses in a year.
    """

    def __init__(self) -> None:
        self._keys: dict[Visitor, _Key] = {}
        self._counts: Counter[_Key] = Counter()

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, visitor: Visitor) -> bool:
        return visitor in self._keys

    def of(self, key: _Key) -> int:
        """How many are counted under it."""
        return self._counts[key]

    def add(self, visitor: Visitor, key: _Key) -> None:
        """Count one who isn't."""
        self._keys[visitor] = key
        self._counts[key] += 1

    def remove(self, visitor: Visitor) -> None:
        """Count one no more; doing it twice is doing it once."""
        key = self._keys.pop(visitor, None)
        if key is not None:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]


class Admission:
    """The places of a server."""

    def __init__(self, settings: IngestSettings, *, metrics: IngestMetrics, now: Callable[[], float]) -> None:
        """`now` is in seconds, on any clock that runs evenly."""
        self._metrics = metrics
        self._now = now
        self._refusals = SparingLog("connection_refused", now)
        self._within = _Tally[bytes]()
        self._shaking = _Tally[bytes]()
        self._named = _Tally[str]()
        self._comings: dict[bytes, Bucket] = {}
        self._often: float | None = None
        self.change(settings)

    def change(self, settings: IngestSettings) -> None:
        """Go by these limits from now on; who is within stays counted."""
        self._settings = settings
        self._allow: list[IPv4Network | IPv6Network] = [parsed_network(each) for each in settings.allow]
        if settings.max_connects_per_minute != self._often:
            self._often = settings.max_connects_per_minute
            self._comings.clear()
        self.most = room_for(settings.max_connections)
        if self.most < settings.max_connections:
            _log.warning(
                "fewer_connections_than_configured",
                max_connections=settings.max_connections,
                possible=self.most,
                reason="the limit of file descriptors (LimitNOFILE, ulimit -n)",
            )

    @property
    def taken(self) -> int:
        """Places that are taken, those of handshakes included."""
        return len(self._within)

    def enter(self, visitor: Visitor, *, shakes_hands: bool = False) -> bool:
        """Take a place, or one of both kinds; False, counted and in the log, where there is none for it."""
        host = visitor.address[0]
        key = counted_as(host)
        why = self._refusal(host, key, shakes_hands=shakes_hands)
        if why is not None:
            self.refused(why, visitor)
            return False
        self._within.add(visitor, key)
        if shakes_hands:
            self._shaking.add(visitor, key)
        return True

    def hands_shaken(self, visitor: Visitor) -> None:
        """Give back the place of a handshake, whatever became of it."""
        self._shaking.remove(visitor)

    def identify(self, visitor: Visitor) -> bool:
        """Count one who is within under its identity; False where that has as many as it may have."""
        name = visitor.identity
        if name is None or visitor not in self._within:
            return True
        most = self._settings.max_connections_per_identity
        if most is not None and self._named.of(name) >= most:
            return False
        self._named.add(visitor, name)
        return True

    def leave(self, visitor: Visitor) -> None:
        """Give all its places back; doing it twice is doing it once."""
        for tally in (self._within, self._shaking, self._named):
            tally.remove(visitor)

    def allows(self, host: str) -> bool:
        """Whether this address may connect at all."""
        if not self._allow:
            return True
        address = parsed(host)
        return address is not None and any(address in network for network in self._allow)

    def refused(self, why: WhyRefused, visitor: Visitor, **about: object) -> None:
        """Count one who was not let in, and say so, though not for each of a flood."""
        self._metrics.refused.labels(why).inc()
        self._refusals.note(why, reason=why, peer=visitor.address[0], **about)

    def sweep(self) -> None:
        """Say what of that was only counted, and forget who didn't come for a while; about once a second."""
        now = self._now()
        for key in [key for key, comings in self._comings.items() if comings.full(now)]:
            del self._comings[key]
        self._refusals.flush()

    def _refusal(self, host: str, key: bytes, *, shakes_hands: bool) -> WhyRefused | None:
        if not self.allows(host):
            return WhyRefused.NOT_ALLOWED
        if shakes_hands and not self._may_shake(key):
            return WhyRefused.TOO_MANY_HANDSHAKES
        if len(self._within) >= self.most:
            return WhyRefused.TOO_MANY
        most = self._settings.max_connections_per_address
        if most is not None and self._within.of(key) >= most:
            return WhyRefused.TOO_MANY_OF_ADDRESS
        return None if self._may_come(key) else WhyRefused.TOO_OFTEN

    def _may_shake(self, key: bytes) -> bool:
        """Whether there is a place for one more handshake of this address."""
        room = len(self._shaking) < _MOST_HANDSHAKES
        return room and self._shaking.of(key) < _MOST_HANDSHAKES_OF_ADDRESS

    def _may_come(self, key: bytes) -> bool:
        """Whether this address has not come too often; if so this counts as another time."""
        if self._often is None:
            return True
        now = self._now()
        if key not in self._comings:
            self._comings[key] = Bucket(self._often / _MINUTE_S, now, burst=self._often)
        comings = self._comings[key]
        if comings.level(now) < 1:
            return False
        comings.spend(1, now)
        return True
