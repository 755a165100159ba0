"""Counting the rows of the Cassandra tables, for holding the books against them.

Which partitions there are is asked of `readings` itself, not of the directory that Headrace keeps: a
partition that it has forgotten would be found. Rows are counted by partition, a few at a time.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from parser.block import to_seq
from storage.base import MINUTE_MS, LedgerMinute, minute_of
from storage.cassandra.answers import ReadingsHandler, as_keys
from storage.cassandra.connect import Connected
from storage.cassandra.days import days_of, nodes_of
from storage.cassandra.lots import lots
from storage.cassandra.purge import add_up, read_purged, sums_of
from storage.cassandra.schema import DAY_MS, day_of
from storage.cassandra.tables import use
from storage.cassandra.times import to_ms
from storage.reconcile import MinuteBooks, NodeBooks, Sums
from storage.settings import CassandraSettings

_AT_ONCE: Final = 64

_LEDGER: Final = """SELECT minute, first_seq, last_seq, set_aside, stored, rejected, unkept, empty, accepted
    FROM ledger WHERE node = ? AND day = ?"""
_CONNECTIONS: Final = """SELECT closed_at, stored, rejected, unkept, empty, accepted FROM connections
    WHERE node = ? AND day = ?"""
_PARTITIONS: Final = "SELECT DISTINCT device_id, bucket FROM readings"
_ROWS: Final = "SELECT received_at, seq FROM readings WHERE device_id = ? AND bucket = ?"
_REJECTS: Final = "SELECT received_at, seq FROM rejected_records WHERE node = ? AND day = ?"


Keys = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Times (ms) and numbers of rows, both of shape (n,)."""


class CassandraBooks:
    """The `Books` of one keyspace.

    Rows expire by the time at which they were written, also while nothing comes and nobody purges: what is
    older than `keep_days` is not held against anything.

    Raises:
        StorageError: the cluster can't be reached, or the tables are not ours.
    """

    def __init__(self, settings: CassandraSettings, keep_days: float | None = None) -> None:
        now = time.time_ns() // 1_000_000
        self._expired = 0 if keep_days is None else minute_of(now - round(keep_days * DAY_MS))
        self._connected = Connected(settings)
        try:
            use(self._connected)
            self._connected.session.client_protocol_handler = ReadingsHandler
        except BaseException:
            self._connected.close()
            raise

    def nodes(self) -> list[NodeBooks]:
        """The books of every node; see `Books`."""
        return [self._node(node) for node in nodes_of(self._connected)]

    def readings(self, node: int, since: int, last_seq: int) -> Mapping[int, int]:
        """Rows of `readings` by minute; see `Books`."""
        return _by_minute(self._all_rows(), since, to_seq(node, 0), last_seq)

    def rejects(self, node: int, since: int, last_seq: int) -> Mapping[int, int]:
        """Rows of `rejected_records` by minute; see `Books`."""
        (days,) = days_of(self._connected, node)
        asked = [self._connected.bound(_REJECTS, node, day) for day in days]
        return _by_minute(_keys(self._connected.ask(asked)), since, to_seq(node, 0), last_seq)

    def minute(self, node: int, minute: int) -> MinuteBooks | None:
        """All about one minute; see `Books`."""
        if minute < max(self._expired, read_purged(self._connected, node).before or 0):
            return None
        ledger = [row for row in self._ledger(node, [day_of(minute)], minute) if row.minute == minute]
        last_seq = to_seq(node + 1, 0) - 1
        rows = self.readings(node, minute, last_seq).get(minute, 0)
        rejects = self.rejects(node, minute, last_seq).get(minute, 0)
        return MinuteBooks(ledger[0] if ledger else None, rows, rejects)

    def close(self) -> None:
        """Let go of the cluster."""
        self._connected.close()

    def _node(self, node: int) -> NodeBooks:
        purged = read_purged(self._connected, node)
        before = purged.before or 0
        (days,) = days_of(self._connected, node)
        asked = [self._connected.bound(_CONNECTIONS, node, day) for day in days]
        kept = [
            sums_of(row)
            for rows in self._connected.ask(asked)
            for row in rows
            if row[0] is None or to_ms(row[0]) >= before
        ]
        of_connections = add_up([purged.connections, *kept])
        minutes = sorted(self._ledger(node, days, before), key=lambda row: row.minute)
        expired = [row for row in minutes if row.minute < self._expired]
        of_gone = add_up([purged.ledger, *map(_sums_of_minute, expired)])
        return NodeBooks(
            node,
            minutes[len(expired) :],
            Sums(*(one - other for one, other in zip(of_connections, of_gone, strict=True))),
            max(before, self._expired),
            expired[-1].last_seq if expired else purged.last_seq,
        )

    def _ledger(self, node: int, days: list[int], since: int) -> Iterator[LedgerMinute]:
        for rows in self._connected.ask([self._connected.bound(_LEDGER, node, day) for day in days]):
            for row in rows:
                if row[1] is not None and to_ms(row[0]) >= since:
                    yield LedgerMinute(node, to_ms(row[0]), row[1], row[2], *sums_of(row), row[3] or 0)

    def _all_rows(self) -> Iterator[Keys]:
        """Of all readings, a page at a time."""
        places = self._rows(_PARTITIONS)
        for some in lots(places, _AT_ONCE):
            asked = [self._connected.bound(_ROWS, *place) for place in some]
            yield from _keys(self._connected.ask(asked))

    def _rows(self, cql: str, *values: Any) -> list[tuple[Any, ...]]:
        (rows,) = self._connected.ask([self._connected.bound(cql, *values)])
        return rows


def _keys(answers: Iterable[list[tuple[Any, ...]]]) -> Iterator[Keys]:
    """The keys in all pages of these answers."""
    return (as_keys(encoded) for pages in answers for _, encoded in pages)


def _by_minute(found: Iterable[Keys], since: int, first_seq: int, last_seq: int) -> Counter[int]:
    """How many rows each minute has, of those that came since then and have one of these numbers."""
    counted: Counter[int] = Counter()
    for at, seq in found:
        wanted = (at >= since) & (seq >= first_seq) & (seq <= last_seq)
        minutes, rows = np.unique(at[wanted] // MINUTE_MS * MINUTE_MS, return_counts=True)
        counted.update(dict(zip(minutes.tolist(), rows.tolist(), strict=True)))
    return counted


def _sums_of_minute(minute: LedgerMinute) -> tuple[int, ...]:
    return minute.stored, minute.rejected, minute.unkept, minute.empty
