"""Shares: how much one connection may send, in records and in bytes a second.

Each limit is a bucket that fills at its rate, up to what one second brings. What arrives is taken out at
once and never refused; a bucket below nothing is a debt, and while there is one this connection is not read
from. So in a time t no more than rate * (t + 1 s) and one read of the transport get in, and the machine
feels a full TCP window, as it does from the gate. Records are counted by their delimiters. The kernel is
asked to keep a second's worth, so that neither a read nor what is left of a stranger is much more than that.

Where there is no limit nothing of this exists: a share stands between transport and connection only where
there is one, so that the way of a packet is the same as ever.

A connection that comes takes over what one of the same identity, or without one of the same address, has left
of its buckets: closing and coming back brings nobody another second's worth. It brings one read, as every new
connection does; how often is for `ingest.admission` to say.

In a pause nobody hears that the other side has closed or is gone, and a pause may last for hours. So the
kernel is asked once a second about those that have been paused for a while: where nothing more can come, the
stream is read to its end, which is no more than the kernel keeps, and its place is free.

A throttle lasts from the first pause until there was none for five seconds, and is one line in the log at
each of its ends, as far as `ingest.sparing` lets. Pauses are never shorter than a tick is by default:
stopping and starting to read for every packet would cost more than the packets.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Final, NamedTuple, Protocol

import structlog

from ingest.addresses import counted_as
from ingest.buckets import Bucket, Budget, Left
from ingest.connection import SHARE, Connection
from ingest.metrics import IngestMetrics
from ingest.reasons import Limit
from ingest.settings import IngestSettings
from ingest.sparing import SparingLog

_NO_LIMIT: Final = 1e18
_LEAST_BUFFER: Final = 16_384
_MOST_BUFFER: Final = 1 << 20
_LEAST_PAUSE_S: Final = 0.02
_SOON_S: Final = 0.001
_CALM_S: Final = 5.0
_LEAST_LAST_PAUSE_S: Final = 5.0
"""So long who has gone is paused all the same, or closing and coming back would bring more than the rate."""

_LINES: Final = 20

_log = structlog.get_logger("ingest")


def receive_buffer(settings: IngestSettings) -> int | None:
    """Bytes that the kernel keeps of what was sent and not read yet; None where that is its own choice.

    A second's worth is what a machine that keeps to its share needs. The kernel's own choice is megabytes,
    which would be read at the share's rate, minutes after a stranger has gone.
    """
    rates = _Rates.of(settings)
    most = min(rates.bytes, rates.records * settings.max_record_bytes)
    return int(max(most, _LEAST_BUFFER)) if most < _MOST_BUFFER else None


class Timer(Protocol):
    """Something that will happen."""

    def cancel(self) -> None:
        """Let it not happen."""
        ...


class Timers(Protocol):
    """What shares need of a loop."""

    def time(self) -> float:
        """Seconds on a clock that runs evenly."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call it in so many seconds."""
        ...


class _Rates(NamedTuple):
    """What there may be in a second."""

    records: float
    bytes: float

    @classmethod
    def of(cls, settings: IngestSettings) -> "_Rates":
        """As configured."""
        return cls(settings.max_records_per_s or _NO_LIMIT, settings.max_bytes_per_s or _NO_LIMIT)

    def budget(self, now: float) -> Budget:
        """What a connection may send that is new here."""
        return Budget(Bucket(self.records, now), Bucket(self.bytes, now))


class Share(asyncio.Protocol):
    """One connection's: its transport delivers to it, and it to the connection."""

    __slots__ = (
        "_delimiter",
        "_is_last",
        "_loop",
        "_owner",
        "_paused_at",
        "_timer",
        "budget",
        "connection",
        "last_pause",
        "limit",
        "said",
        "seconds",
    )

    def __init__(self, owner: "Shares", connection: Connection, budget: Budget) -> None:
        self._owner = owner
        self._loop = owner.loop
        self._delimiter = owner.delimiter
        self._timer: Timer | None = None
        self._paused_at = 0.0
        self._is_last = False
        self.connection = connection
        self.budget = budget
        self.limit = ""
        """What it is throttled by; empty while it isn't."""

        self.said = False
        """Whether the log knows of this throttle."""

        self.last_pause = 0.0
        """When the last pause ended, on the loop's clock."""

        self.seconds = 0.0
        """How long this throttle has paused reading, all pauses together."""

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        """Deliver it, and pause if it was too much."""
        self.connection.data_received(data)
        now = self._loop.time()
        for_records = self.budget.records.spend(data.count(self._delimiter), now)
        for_bytes = self.budget.bytes.spend(len(data), now)
        if (for_records or for_bytes) and self._timer is None and not self._is_last:
            limit = Limit.RECORDS if for_records > for_bytes else Limit.BYTES
            self._pause(max(for_records, for_bytes, _LEAST_PAUSE_S), limit)

    def eof_received(self) -> bool:
        """Deliver the end."""
        return self.connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Deliver the loss."""
        self.connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self.connection.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self.connection.resume_writing()

    # Pauses.

    def _pause(self, seconds: float, limit: Limit) -> None:
        self._paused_at = self._loop.time()
        self._timer = self._loop.call_later(seconds, self._go_on)
        self.connection.hold(SHARE, self._paused_at)
        if not self.limit:
            self._owner.throttled(self, limit)

    def _go_on(self) -> None:
        now = self._loop.time()
        wait = max(self.budget.records.spend(0, now), self.budget.bytes.spend(0, now))
        if wait:  # timers may be early
            self._timer = self._loop.call_later(max(wait, _SOON_S), self._go_on)
        else:
            self.release()

    def release(self) -> None:
        """End the pause, if there is one."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        self.last_pause = self._loop.time()
        self.seconds += self.last_pause - self._paused_at
        self._owner.paused_for(self.last_pause - self._paused_at)
        self.connection.let_go(SHARE, self.last_pause)

    def read_to_end(self, now: float) -> None:
        """Pause no more, if nothing can come any more but what the kernel has."""
        waits = self._timer is not None and now - self._paused_at >= _LEAST_LAST_PAUSE_S
        if waits and self.connection.sent_all:
            self._is_last = True
            self.release()

    def calm(self, now: float) -> bool:
        """Whether there was no pause for long enough to call it over."""
        return self._timer is None and now - self.last_pause >= _CALM_S


class Shares:
    """Those of all connections, as far as there are limits."""

    def __init__(
        self,
        settings: IngestSettings,
        delimiter: bytes,
        metrics: IngestMetrics,
        loop: Timers,
    ) -> None:
        """`delimiter` ends a record; `loop` has the clock and the timers."""
        self.loop = loop
        self.delimiter = delimiter
        self._metrics = metrics
        self._rates = _Rates.of(settings)
        self._shares: dict[Connection, Share] = {}
        self._left = Left()
        self._throttled: set[Share] = set()
        self._lines = SparingLog("connection_throttled", loop.time, most=_LINES)

    def give(self, connection: Connection) -> None:
        """Give a connection that has its transport a share, where there are limits."""
        if self._rates != (_NO_LIMIT, _NO_LIMIT):
            budget = self._left.take(_whose(connection)) or self._rates.budget(self.loop.time())
            self._shares[connection] = share = Share(self, connection, budget)
            connection.deliver_to(share)

    def change(self, settings: IngestSettings, connections: Collection[Connection]) -> None:
        """Go by these limits from now on; where they are new, everybody begins with a full bucket."""
        rates = _Rates.of(settings)
        if rates == self._rates:
            return
        self._rates = rates
        for connection in connections:
            self._take_back(connection)
            connection.deliver_to(connection)
        self._left.clear()
        for connection in connections:
            self.give(connection)

    def forget(self, connection: Connection) -> None:
        """A connection is gone; what it has left is for who comes back."""
        share = self._take_back(connection)
        if share is not None:
            self._left.put(_whose(connection), share.budget, self.loop.time())

    def _take_back(self, connection: Connection) -> Share | None:
        share = self._shares.pop(connection, None)
        if share is not None:
            share.release()
            self._over(share)
        return share

    def sweep(self) -> None:
        """End the throttles that were not needed for a while, and the pauses of who has gone.

        To be called about once a second.
        """
        now = self.loop.time()
        for share in list(self._throttled):
            share.read_to_end(now)
        for share in [share for share in self._throttled if share.calm(now)]:
            self._over(share)
        self._left.sweep(now)
        self._lines.flush()

    # What a share calls.

    def throttled(self, share: Share, limit: Limit) -> None:
        """A share has paused reading for the first time in a while."""
        share.limit = limit
        self._throttled.add(share)
        self._metrics.throttles.labels(limit).inc()
        self._metrics.throttled.set(len(self._throttled))
        who = share.connection
        share.said = self._lines.note(limit, connection=who.id, peer=who.peer, limit=limit)

    def paused_for(self, seconds: float) -> None:
        """A pause is over."""
        self._metrics.throttled_seconds.inc(seconds)

    def _over(self, share: Share) -> None:
        if share not in self._throttled:
            return
        self._throttled.remove(share)
        self._metrics.throttled.set(len(self._throttled))
        if share.said:
            who = share.connection
            _log.info(
                "connection_goes_on" if who.ending is None else "throttled_connection_ended",
                connection=who.id,
                peer=who.peer,
                limit=share.limit,
                paused_s=round(share.seconds, 3),
            )
        share.limit, share.said, share.seconds = "", False, 0.0


def _whose(connection: Connection) -> str | bytes:
    """Who is meant where somebody comes back."""
    return connection.identity or counted_as(connection.address[0])
