"""Deleting what is old and did not expire by itself, in small steps.

Rows written with a time to live need nothing; they go a little later than they may. What is left: rows from
before `keep_days` was set or from when it was longer, and the books, which have to be summed up before they
go.

For the books, `purged.before` of a node rises by compare-and-set together with the sums of what lies
behind it: the ledger's minutes below it, the connections that were closed before it. At that moment these
rows do not count any more, whoever looks; deleting them, and everything else that old, comes after and
can be repeated. So two servers can purge at once, and one can be killed anywhere.

Deletions carry the end of what they delete as their write timestamp (of a newest row, its own): a row
that is newer is never hit.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from parser.block import from_seq
from storage.base import minute_of
from storage.cassandra.connect import Connected
from storage.cassandra.flight import Flight
from storage.cassandra.schema import HOUR_MS, day_of
from storage.cassandra.times import to_ms, to_ms_or_none

_STEP: Final = 256
"""Partitions in a step."""

_NODES: Final = "SELECT DISTINCT node FROM nodes"
_DAYS: Final = "SELECT day FROM days WHERE node = ? AND day < ?"
_PURGED: Final = """SELECT before, last_seq, ledger_stored, ledger_rejected, ledger_unkept, ledger_empty,
    connections_stored, connections_rejected, connections_unkept, connections_empty
    FROM purged WHERE node = ?"""
_MINUTES: Final = """SELECT minute, last_seq, stored, rejected, unkept, empty, accepted FROM ledger
    WHERE node = ? AND day = ? AND minute < ?"""
_CLOSED: Final = """SELECT connection, closed_at, stored, rejected, unkept, empty, accepted FROM connections
    WHERE node = ? AND day = ?"""
RAISE: Final = """UPDATE purged SET before = ?, last_seq = ?, ledger_stored = ?, ledger_rejected = ?,
    ledger_unkept = ?, ledger_empty = ?, connections_stored = ?, connections_rejected = ?,
    connections_unkept = ?, connections_empty = ? WHERE node = ? IF before = ?"""

_FORGET_MINUTES: Final = "DELETE FROM ledger USING TIMESTAMP ? WHERE node = ? AND day = ? AND minute < ?"
_FORGET_CONNECTION: Final = "DELETE FROM connections WHERE node = ? AND day = ? AND connection = ?"
_REJECTS: Final = "SELECT seq, received_at FROM rejected_records WHERE node = ? AND day = ?"
_FORGET_REJECTS: Final = """DELETE FROM rejected_records USING TIMESTAMP ? WHERE node = ? AND day = ?
    AND seq <= ?"""
_ASIDE: Final = "SELECT seq, received_at FROM set_aside_records WHERE node = ? AND day = ?"
_FORGET_ASIDE: Final = """DELETE FROM set_aside_records USING TIMESTAMP ? WHERE node = ? AND day = ?
    AND seq <= ?"""

_LATEST: Final = "SELECT shard, device_id, node, seq, received_at FROM latest_readings"
_BUCKETS: Final = "SELECT device_id, bucket FROM device_buckets WHERE device_id = ? AND bucket < ?"
_OLD: Final = """SELECT received_at FROM readings WHERE device_id = ? AND bucket = ? AND received_at < ?
    LIMIT 1"""
_FORGET_READINGS: Final = """DELETE FROM readings USING TIMESTAMP ? WHERE device_id = ? AND bucket = ?
    AND received_at < ?"""
_FORGET_BUCKET: Final = "DELETE FROM device_buckets USING TIMESTAMP ? WHERE device_id = ? AND bucket = ?"
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

    def __init__(self, connected: Connected, flight: Flight, expires_later_s: int) -> None:
        """Readings are left to themselves for `expires_later_s`; what has not expired then is deleted."""
        self._connected = connected
        self._flight = flight
        self._later_ms = expires_later_s * 1000

    def step(self, before: int) -> int:
        """Delete some rows received before this time's minute; 0 when none is left."""
        before = minute_of(before)
        days = self._days(before)
        for node in days:
            self._raise(node, days[node], before)
        steps: list[Callable[[], int]] = [
            lambda: sum(self._rejects(node, days[node], before) for node in days),
            lambda: self._readings(before - self._later_ms),
            lambda: self._latest(before),
            lambda: sum(self._delete(list(self._old_books(node, days[node], before))) for node in days),
        ]
        return next((deleted for step in steps if (deleted := step())), 0)

    def _days(self, before: int) -> dict[int, list[int]]:
        """The days of each node that begin before this time."""
        (nodes,) = self._ask(_NODES)
        found = self._connected.ask([self._connected.bound(_DAYS, node, before) for (node,) in nodes])
        return {node: [to_ms(day) for (day,) in rows] for (node,), rows in zip(nodes, found, strict=True)}

    def _ask(self, cql: str, *values: Any) -> list[list[tuple[Any, ...]]]:
        return self._connected.ask([self._connected.bound(cql, *values)])

    def _delete(self, statements: list[Any]) -> int:
        self._flight.deliver(statements)
        return len(statements)

    def _readings(self, before: int) -> int:
        """Of devices and buckets that have any that old."""
        bound = self._connected.bound
        (rows,) = self._ask(_LATEST)
        asked = [bound(_BUCKETS, device, before) for device in sorted({row[1] for row in rows})]
        found = self._connected.ask(asked)
        old = [(device, to_ms(bucket)) for rows in found for device, bucket in rows]
        for start in range(0, len(old), _STEP):
            part = old[start : start + _STEP]
            found = self._connected.ask([bound(_OLD, *place, before) for place in part])
            left = [place for place, rows in zip(part, found, strict=True) if rows]
            deletions = [bound(_FORGET_READINGS, _end_us(before), *place, before) for place in left]
            gone = self._delete(deletions) + self._old_buckets(part, before)
            if gone:
                return gone
        return 0

    def _old_buckets(self, places: list[tuple[str, int]], before: int) -> int:
        """Forget buckets that ended before; what is written again into one stays hidden with its rows."""
        width = self._connected.settings.bucket_hours * HOUR_MS
        old = [place for place in places if place[1] + width <= before]
        return self._delete([self._connected.bound(_FORGET_BUCKET, _end_us(before), *place) for place in old])

    def _latest(self, before: int) -> int:
        (rows,) = self._ask(_LATEST)
        old = [(from_seq(seq)[1], *key) for *key, seq, at in rows if to_ms(at) < before]
        return self._delete([self._connected.bound(_FORGET_LATEST, *one) for one in old])

    def _raise(self, node: int, days: list[int], before: int) -> None:
        """Take the sums of what is old into `purged`, unless somebody has done it already."""
        known = read_purged(self._connected, node)
        since = known.before or 0
        if known.before is not None and before <= known.before:
            return
        minutes = [row for row in self._minutes(node, days, before) if to_ms(row[0]) >= since]
        closed = [row for row in self._closed(node, days, before) if to_ms(row[1]) >= since]
        last_seq = max([row[1] for row in minutes], default=known.last_seq)
        ledger = add_up([known.ledger, *map(sums_of, minutes)])
        connections = add_up([known.connections, *map(sums_of, closed)])
        self._ask(RAISE, before, last_seq, *ledger, *connections, node, known.before)

    def _minutes(self, node: int, days: list[int], before: int) -> Iterator[tuple[Any, ...]]:
        asked = [self._connected.bound(_MINUTES, node, day, before) for day in days]
        for rows in self._connected.ask(asked):
            yield from rows

    def _closed(self, node: int, days: list[int], before: int) -> Iterator[tuple[Any, ...]]:
        """Connections that were closed before: they were opened before, on one of these days."""
        asked = [self._connected.bound(_CLOSED, node, day) for day in days]
        for rows in self._connected.ask(asked):
            yield from (row for row in rows if row[1] is not None and to_ms(row[1]) < before)

    def _rejects(self, node: int, days: list[int], before: int) -> int:
        deletions = []
        for cql, deletion in ((_REJECTS, _FORGET_REJECTS), (_ASIDE, _FORGET_ASIDE)):
            found = self._connected.ask([self._connected.bound(cql, node, day) for day in days])
            for day, rows in zip(days, found, strict=True):
                last = max((seq for seq, at in rows if to_ms(at) < before), default=None)
                if last is not None:
                    deletions.append(self._connected.bound(deletion, _end_us(before), node, day, last))
        return self._delete(deletions)

    def _old_books(self, node: int, days: list[int], before: int) -> Iterator[Any]:
        bound = self._connected.bound
        found = self._connected.ask([bound(_MINUTES, node, day, before) for day in days])
        for day, rows in zip(days, found, strict=True):
            if rows:
                yield bound(_FORGET_MINUTES, _end_us(before), node, day, before)
        for row in self._closed(node, days, before):
            yield bound(_FORGET_CONNECTION, node, day_of(row[0] // 1000), row[0])


def _end_us(before: int) -> int:
    """The last stamp of what was received before this time."""
    return before * 1000 - 1
