"""Writing what was read into the tables of the cluster, as its own writer would have.

Readings go the writer's way: encoded whole, in batches of one partition. Write timestamps are such that
copying a row again changes nothing, and that they are below the stamp of any block that is still to come:

    readings, rejected_records   when the row was received
    latest_readings              the record's number
    connections                  their opening and their end: when it was
    sums in connections          just before the newest thing that is known of the node
    ledger                       the same, or the end of the minute, so that a purge of it hits the row

Between two passes sums may have changed while these times have not: so the pass's number is added to
them, as microseconds. `next_record` of every sum is the node's, as everything below it is counted.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

import numpy as np
from cassandra.query import BatchStatement, BatchType
from numpy.typing import NDArray

from parser.block import from_seq
from parser.settings import VALUES
from storage.base import AHEAD_MS, MINUTE_MS, Connection, LedgerMinute, Reading, Rejected, minute_of
from storage.cassandra.books import PUT_CLOSING, PUT_MINUTE, PUT_OPENING, PUT_SUMS, connection_day
from storage.cassandra.connect import Connected
from storage.cassandra.days import days_of, note_day
from storage.cassandra.encoding import Batches, starts_of
from storage.cassandra.expiry import countable_each_s
from storage.cassandra.flight import Flight
from storage.cassandra.meaning import meaning, shown
from storage.cassandra.purge import RAISE, CassandraPurge, read_purged
from storage.cassandra.rejects import INSERT as INSERT_REJECT
from storage.cassandra.replicas import Replicas
from storage.cassandra.rows import open_encoder
from storage.cassandra.schema import day_of, expiring, life_s
from storage.cassandra.tables import check_tables
from storage.cassandra.times import to_ms
from storage.copying.source import SourceNode, SourceState
from storage.errors import StorageError
from storage.rows import Rows

_REJECTS: Final = "SELECT seq, received_at FROM rejected_records WHERE node = ? AND day = ?"
_FORGET_REJECT: Final = """DELETE FROM rejected_records USING TIMESTAMP ?
    WHERE node = ? AND day = ? AND seq = ?"""

_DAY_S: Final = 86_400
_BATCH_ROWS: Final = 200
_BATCH_BYTES: Final = 256 << 10

_Keyed = tuple[tuple[int, int], int, Any]
"""Node and day of a statement's partition, how many bytes it has beside the usual ones, and itself."""


class Target:
    """The tables of a keyspace, for one copy."""

    def __init__(self, connected: Connected, keep_days: float | None) -> None:
        """`connected` is in the keyspace, whose tables are ours."""
        self._connected = connected
        settings = connected.settings
        self._keep_s = None if keep_days is None else round(keep_days * _DAY_S)
        self._life_s = None if keep_days is None else life_s(keep_days, settings.bucket_hours)
        self._flight = Flight(connected)
        self._encoder = open_encoder(connected, self._life_s)
        self._batches = Batches(settings.keyspace, Replicas(connected).sets)
        self._purge = CassandraPurge(connected, self._flight, whole_buckets=True)
        self._newest = 0
        self._number = 0

    def begin(self, state: SourceState, number: int) -> None:
        """Begin a pass over a source in this state.

        Raises:
            StorageError: its newest time is far ahead of the cluster's clock, and what is old by it would go.
        """
        if self._keep_s is not None and state.newest > self._connected.clock() + AHEAD_MS:
            raise StorageError(
                f"{shown(self._connected.settings)}: the newest rows to be copied are of a time that is far"
                " ahead of the cluster's clock, and whatever is older than [storage] keep_days by that would"
                " be deleted there; copy without keep_days"
            )
        self._newest = state.newest
        self._number = min(number, 999)

    @property
    def before(self) -> int:
        """What was received before is too old to be kept, by the newest time in the source; ms."""
        return 0 if self._keep_s is None else max(0, minute_of(self._newest - self._keep_s * 1000))

    def readings(self, rows: Rows) -> None:
        """Write readings that stand in the order of their key, and note their buckets."""
        begins = starts_of(rows.codes, self._encoder.bucket_of(rows.received_at))
        buckets = self._batches.of(self._encoder.buckets(rows, begins))
        readings = self._batches.of(self._encoder.readings(rows, self._ttls(rows.received_at)))
        self._deliver(chain(buckets, readings))

    def latest(self, readings: Iterable[Reading]) -> None:
        """Write newest readings, one of each device."""
        of_node: dict[int, list[Reading]] = {}
        for reading in readings:
            of_node.setdefault(from_seq(reading.seq)[0], []).append(reading)
        for node, found in of_node.items():
            self._deliver(self._batches.of(self._encoder.latest(_rows(found), node)))

    def rejects(self, page: Iterable[Rejected]) -> None:
        """Write rejected records, in the order of their numbers."""
        self._deliver(_together(map(self._reject, page)))

    def forget_rejects(self, node: int, but: set[int]) -> None:
        """Delete rejects that an earlier pass has copied and that the source has no more."""
        (days,) = days_of(self._connected, node)
        found = self._connected.ask([self._connected.bound(_REJECTS, node, day) for day in days])
        self._deliver(
            self._connected.bound(_FORGET_REJECT, to_ms(at) * 1000, node, day, seq)
            for day, rows in zip(days, found, strict=True)
            for seq, at in rows
            if seq not in but
        )

    def ledger(self, node: SourceNode, page: Iterable[LedgerMinute]) -> None:
        """Write minutes of the ledger, in their order."""
        self._deliver(_together(self._minute(node, minute) for minute in page))

    def connections(self, node: SourceNode, page: Iterable[Connection]) -> None:
        """Write connections, in the order of their numbers."""
        self._deliver(_together(part for row in page for part in self._connection(node, row)))

    def days(self, node: int, days: set[int]) -> None:
        """Note the days of a node that have rows."""
        self._deliver(note_day(self._connected, node, day, day * 1000) for day in sorted(days))

    def purged(self, node: SourceNode) -> None:
        """Write what was purged, unless more is purged here already."""
        before, last_seq, ledger, connections = node.purged
        known = read_purged(self._connected, node.node).before
        if before is not None and (known is None or known < before):
            values = (before, last_seq, *ledger, *connections, node.node, known)
            self._connected.ask([self._connected.bound(RAISE, *values)])

    def purge(self) -> None:
        """Delete what is too old, and take it out of the books."""
        while self.before and self._purge.step(self.before):
            pass

    def _reject(self, row: Rejected) -> _Keyed:
        node, day = from_seq(row.seq)[0], day_of(row.received_at)
        ttls = self._ttls(np.array([row.received_at]))
        insert, life = expiring(INSERT_REJECT, None if ttls is None else int(ttls[0]))
        bound = self._connected.put(
            insert,
            node,
            day,
            row.seq,
            row.received_at,
            row.connection,
            row.peer,
            row.reason,
            row.field,
            row.device_id,
            row.place,
            row.raw,
            row.received_at * 1000,
            *life,
        )
        return (node, day), len(row.raw), bound

    def _minute(self, node: SourceNode, row: LedgerMinute) -> _Keyed:
        day = day_of(row.minute)
        stamp = min(row.minute + MINUTE_MS, node.newest) - 1
        bound = self._connected.put(
            PUT_MINUTE,
            stamp * 1000 + self._number,
            row.first_seq,
            row.last_seq,
            row.stored,
            row.rejected,
            row.unkept,
            row.empty,
            row.set_aside,
            node.next_record,
            node.node,
            day,
            row.minute,
        )
        return (node.node, day), 0, bound

    def _connection(self, node: SourceNode, row: Connection) -> Iterator[_Keyed]:
        key = (node.node, connection_day(row.connection))
        opening = (row.opened_at * 1000, row.opened_at, row.peer, row.identity)
        yield key, 0, self._connected.put(PUT_OPENING, *opening, *key, row.connection)
        if row.closed_at is not None:
            closing = (row.closed_at * 1000, row.closed_at, row.why)
            yield key, 0, self._connected.put(PUT_CLOSING, *closing, *key, row.connection)
        sums = (row.bytes, row.stored, row.rejected, row.unkept, row.empty, row.unterminated)
        stamp = (node.newest - 1) * 1000 + self._number
        yield key, 0, self._connected.put(PUT_SUMS, stamp, *sums, node.next_record, *key, row.connection)

    def _ttls(self, received_at: NDArray[np.int64]) -> NDArray[np.int32] | None:
        """What is left of each row's life, in seconds, as if the newest had come now; 0 is for ever."""
        if self._life_s is None:
            return None
        left = (received_at - self._newest) // 1000 + self._life_s
        return countable_each_s(np.maximum(left, 1))

    def _deliver(self, statements: Iterable[Any]) -> None:
        """Send all; no row of ours is refused unless the tables are not as they were made."""
        refused = self._flight.deliver(statements)
        if refused:
            check_tables(self._connected)
            raise meaning(self._connected.settings, refused[0].error)


def _rows(readings: list[Reading]) -> Rows:
    """One row for each device."""
    return Rows(
        [row.device_id for row in readings],
        np.arange(len(readings), dtype=np.int32),
        np.array([row.received_at * 1000 for row in readings], np.int64),
        np.array([row.seq for row in readings], np.int64),
        np.array([[getattr(row, name) for row in readings] for name in VALUES], np.float64),
    )


def _together(statements: Iterable[_Keyed]) -> Iterator[BatchStatement]:
    """Batches of statements that are neighbours in one partition."""
    batch, of, size = BatchStatement(BatchType.UNLOGGED), None, 0
    for key, more, statement in statements:
        if len(batch) and (key != of or len(batch) >= _BATCH_ROWS or size > _BATCH_BYTES):
            yield batch
            batch, size = BatchStatement(BatchType.UNLOGGED), 0
        batch.add(statement)
        of, size = key, size + more
    if len(batch):
        yield batch
