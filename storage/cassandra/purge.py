"""Deleting what is old, in small steps.

Readings go with their bucket, as soon as all of it is old. An hour later they would expire by themselves,
which is for times when nobody is there to purge. For who reads there, a deleted bucket is one tombstone, and
each row that expired is one; a node gives up on a read that meets too many of them. So nobody looks here
whether there are rows: that would be such a read.

For the books, `purged.before` of a node rises by compare-and-set together with the sums of what lies
behind it: the ledger's minutes below it, the connections that were closed before it. At that moment these
rows do not count any more, whoever looks; deleting them, and everything else that old, comes after and
can be repeated. So two servers can purge at once, and one can be killed anywhere.

Deletions are of ranges, so that they stay few however much is deleted; all that they can hit is older.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from parser.block import from_seq
from storage.base import MINUTE_MS, minute_of
from storage.cassandra.claims import compare_and_set
from storage.cassandra.connect import Connected
from storage.cassandra.days import days_of, forget_day, nodes_of
from storage.cassandra.flight import Flight
from storage.cassandra.lots import lots
from storage.cassandra.meaning import meaning
from storage.cassandra.schema import DAY_MS, HOUR_MS
from storage.cassandra.tables import check_tables
from storage.cassandra.times import to_ms, to_ms_or_none

_STEP: Final = 256
"""Statements in a step."""

_DEVICES: Final = 32
"""Devices whose buckets are asked for together; after a long time each may have thousands."""

_PURGED: Final = """SELECT before, last_seq, ledger_stored, ledger_rejected, ledger_unkept, ledger_empty,
    connections_stored, connections_rejected, connections_unkept, connections_empty
    FROM purged WHERE node = ?"""
_MINUTES: Final = """SELECT minute, last_seq, set_aside, stored, rejected, unkept, empty, accepted FROM ledger
    WHERE node = ? AND day = ? AND minute < ?"""
_SET_ASIDE, _REJECTED = 2, 4
"""Columns of it."""

_CLOSED: Final = """SELECT connection, closed_at, stored, rejected, unkept, empty, accepted FROM connections
    WHERE node = ? AND day = ? AND connection < ?"""
RAISE: Final = """UPDATE purged SET before = ?, last_seq = ?, ledger_stored = ?, ledger_rejected = ?,
    ledger_unkept = ?, ledger_empty = ?, connections_stored = ?, connections_rejected = ?,
    connections_unkept = ?, connections_empty = ? WHERE node = ? IF before = ?"""

_FORGET_MINUTES: Final = "DELETE FROM ledger USING TIMESTAMP ? WHERE node = ? AND day = ? AND minute < ?"
_FORGET_CONNECTIONS: Final = """DELETE FROM connections USING TIMESTAMP ? WHERE node = ? AND day = ?
    AND connection > ? AND connection <= ?"""
_FORGET_REJECTS: Final = """DELETE FROM rejected_records USING TIMESTAMP ? WHERE node = ? AND day = ?
    AND seq <= ?"""
_FORGET_ASIDE: Final = """DELETE FROM set_aside_records USING TIMESTAMP ? WHERE node = ? AND day = ?
    AND seq <= ?"""

_LATEST: Final = "SELECT shard, device_id, node, seq, received_at FROM latest_readings"
_BUCKETS: Final = "SELECT device_id, bucket FROM device_buckets WHERE device_id = ? AND bucket < ?"
_FORGET_READINGS: Final = """DELETE FROM readings USING TIMESTAMP ? WHERE device_id = ? AND bucket = ?
    AND received_at < ?"""
_FORGET_BUCKETS: Final = "DELETE FROM device_buckets USING TIMESTAMP ? WHERE device_id = ? AND bucket <= ?"
_ANY: Final = (
    "SELECT minute FROM ledger WHERE node = ? AND day = ? LIMIT 1",
    "SELECT connection FROM connections WHERE node = ? AND day = ? LIMIT 1",
    "SELECT seq FROM rejected_records WHERE node = ? AND day = ? LIMIT 1",
    "SELECT seq FROM set_aside_records WHERE node = ? AND day = ? LIMIT 1",
)
"""What a day can have."""

_FORGET_LATEST: Final = """DELETE FROM latest_readings USING TIMESTAMP ?
    WHERE shard = ? AND device_id = ? AND node = ?"""


class PurgedSums(NamedTuple):
    """What a node's books held of what is gone."""

    before: int | None
    last_seq: int | None
    ledger: tuple[int, int, int, int]
    """Stored, rejected, unkept, empty."""

    connections: tuple[int, int, int, int]


def read_purged(connected: Connected, node: int) -> PurgedSums:
    """The sums of a node; zeros where nothing was purged."""
    (rows,) = connected.ask([connected.bound(_PURGED, node)])
    if not rows:
        return PurgedSums(None, None, (0, 0, 0, 0), (0, 0, 0, 0))
    before, last_seq, *sums = rows[0]
    a, b, c, d, e, f, g, h = sums
    return PurgedSums(to_ms_or_none(before), last_seq, (a, b, c, d), (e, f, g, h))


def sums_of(row: tuple[Any, ...]) -> tuple[int, int, int, int]:
    """Stored, rejected, unkept, empty of a row that ends with these and `accepted`.

    A reject that was accepted later changes sides.
    """
    stored, rejected, unkept, empty, accepted = row[-5:]
    moved = len(accepted or ())
    return (stored or 0) + moved, (rejected or 0) - moved, unkept or 0, empty or 0


def add_up(parts: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Sums of sums, place by place."""
    return tuple(map(sum, zip(*parts, strict=True)))


class CassandraPurge:
    """One pass after another over the tables, step by step."""

    def __init__(self, connected: Connected, flight: Flight, *, whole_buckets: bool) -> None:
        """Readings go by the minute, or with `whole_buckets` when all of a bucket are old."""
        self._connected = connected
        self._flight = flight
        self._width = connected.settings.bucket_hours * HOUR_MS
        self._grain = self._width if whole_buckets else MINUTE_MS
        self._pass: tuple[int, Iterator[int]] | None = None
        self._readings_before = 0

    def step(self, before: int) -> int:
        """Do some of what is to be done with all received before this time's minute; 0 when all is done."""
        before = minute_of(before)
        while True:
            of, steps = self._pass or (before, self._work(before))
            self._pass = None  # one that fails is over
            if done := next(steps, 0):
                self._pass = of, steps
                return done
            if of == before:
                return 0

    def _work(self, before: int) -> Iterator[int]:
        """A pass; each step says how much it did. Nothing in it holds more than a day of a node at once."""
        nodes = nodes_of(self._connected)
        for node, days in zip(nodes, days_of(self._connected, *nodes), strict=True):
            old = [day for day in reversed(days) if day < before]
            yield from self._raise(node, old, before)
            for day in old:
                yield from self._of_day(node, day, before)
        readings_before = before - before % self._grain
        if readings_before > self._readings_before:
            latest = self._ask(_LATEST)
            yield from self._readings(sorted({row[1] for row in latest}), readings_before)
            yield from self._delivered(self._latest(latest, readings_before))
            self._readings_before = readings_before

    def _delivered(self, statements: Iterable[Any]) -> Iterator[int]:
        """Send them, some at a time."""
        for some in lots(statements, _STEP):
            refused = self._flight.deliver(some)
            if refused:
                check_tables(self._connected)
                raise meaning(self._connected.settings, refused[0].error)
            yield len(some)

    def _ask(self, cql: str, *values: Any) -> list[tuple[Any, ...]]:
        (rows,) = self._connected.ask([self._connected.bound(cql, *values)])
        return rows

    # The books.

    def _raise(self, node: int, days: list[int], before: int) -> Iterator[int]:
        """Take the sums of what is old into `purged`, unless somebody has done it already."""
        while True:
            known = read_purged(self._connected, node)
            since = known.before or 0
            if known.before is not None and before <= known.before:
                return
            last_seq = known.last_seq
            ledger: tuple[int, ...] = known.ledger
            connections: tuple[int, ...] = known.connections
            for day in days:
                minutes = [row for row in self._minutes(node, day, before) if to_ms(row[0]) >= since]
                last_seq = max([row[1] for row in minutes], default=last_seq)
                ledger = add_up([ledger, *map(sums_of, minutes)])
                closed = [row for row in self._closed(node, day, before) if _was_closed(row, since, before)]
                connections = add_up([connections, *map(sums_of, closed)])
                yield 1
            values = (before, last_seq, *ledger, *connections, node, known.before)
            if compare_and_set(self._connected, RAISE, *values):
                return

    def _minutes(self, node: int, day: int, before: int) -> list[tuple[Any, ...]]:
        """Those that count; what is left of one that was deleted does not."""
        return [row for row in self._ask(_MINUTES, node, day, before) if row[1] is not None]

    def _closed(self, node: int, day: int, before: int) -> list[tuple[Any, ...]]:
        """Connections of a day that can have been closed before: a number is the stamp of an opening."""
        return self._ask(_CLOSED, node, day, before * 1000)

    def _of_day(self, node: int, day: int, before: int) -> Iterator[int]:
        """Delete what is old of a day, whose sums are in `purged`; rejects before what tells of them."""
        minutes = self._ask(_MINUTES, node, day, before)
        yield from self._delivered(self._rejects(node, day, minutes, before))
        yield from self._delivered(self._old_books(node, day, minutes, before))
        if day + DAY_MS <= before and not any(self._ask(cql, node, day) for cql in _ANY):
            yield from self._delivered([forget_day(self._connected, node, day, _end_us(before))])

    def _rejects(self, node: int, day: int, minutes: list[tuple[Any, ...]], before: int) -> Iterator[Any]:
        """Up to the last number that the ledger knows of: there may be many, so nobody looks at them."""
        for count, deletion in ((_REJECTED, _FORGET_REJECTS), (_SET_ASIDE, _FORGET_ASIDE)):
            last = max((row[1] for row in minutes if row[1] is not None and row[count]), default=None)
            if last is not None:
                yield self._connected.bound(deletion, _stamp(before), node, day, last)

    def _old_books(self, node: int, day: int, minutes: list[tuple[Any, ...]], before: int) -> Iterator[Any]:
        bound, stamp = self._connected.bound, _stamp(before)
        if minutes:
            yield bound(_FORGET_MINUTES, stamp, node, day, before)
        ascending = reversed(self._closed(node, day, before))
        for above, last in _runs((row[0], _was_closed(row, 0, before)) for row in ascending):
            yield bound(_FORGET_CONNECTIONS, stamp, node, day, above, last)

    # Readings.

    def _readings(self, devices: list[str], before: int) -> Iterator[int]:
        """Of one device after the other what it has of that age, without looking whether it has any."""
        bound, stamp = self._connected.bound, _stamp(before)
        for some in lots(devices, _DEVICES):
            found = self._connected.ask([bound(_BUCKETS, device, before) for device in some])
            old = [(device, to_ms(bucket)) for rows in found for device, bucket in rows]
            yield from self._delivered(bound(_FORGET_READINGS, stamp, *place, before) for place in old)
            last = before - self._width
            ended = sorted({device for device, bucket in old if bucket <= last})
            yield from self._delivered(bound(_FORGET_BUCKETS, stamp, device, last) for device in ended)
            yield len(some)

    def _latest(self, rows: Iterable[tuple[Any, ...]], before: int) -> Iterator[Any]:
        for *key, seq, at in rows:
            if to_ms(at) < before:  # its write timestamp is its number, not its time
                yield self._connected.bound(_FORGET_LATEST, from_seq(seq)[1], *key)


def _was_closed(connection: tuple[Any, ...], since: int, before: int) -> bool:
    return connection[1] is not None and since <= to_ms(connection[1]) < before


def _runs(connections: Iterable[tuple[int, bool]]) -> Iterator[tuple[int, int]]:
    """Those that go, ascending, as ranges between those that stay: above which one, up to which one."""
    above, last = -1, None
    for connection, goes in connections:
        if goes:
            last = connection
            continue
        if last is not None:
            yield above, last
        above, last = connection, None
    if last is not None:
        yield above, last


def _end_us(before: int) -> int:
    """The last stamp of what was received before this time."""
    return before * 1000 - 1


def _stamp(before: int) -> int:
    """The write timestamp of deletions: above that of everything received before, and now, if that is later.

    In tables that expire file by file a node drops none that is newer than the oldest timestamp in any other.
    """
    return max(_end_us(before), time.time_ns() // 1000)
