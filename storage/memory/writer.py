"""The writing side of the reference."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from parser.block import Block, Closed, Opened, Started, from_seq
from parser.parsed import ParsedBlock
from storage.base import (
    SERVER_LOST,
    Claim,
    Cursor,
    DamagedBlock,
    Reading,
    Rejected,
    Requests,
    Written,
    minute_of,
)
from storage.errors import CursorMovedError, NodeClaimedError
from storage.memory.tables import MemoryTables
from storage.settings import RejectQuota

K = TypeVar("K")
V = TypeVar("V")


class MemoryTableWriter:
    """A `TableWriter` on tables in memory."""

    def __init__(self, tables: MemoryTables, quota: RejectQuota | None = None) -> None:
        self._tables = tables
        self._quota = quota or RejectQuota()
        self._node: int | None = None
        self._durable = 0

    def claim(self, node: int, journal: str, *, adopt: bool, to_write: bool = True) -> Claim:
        """Take the node for a journal; see `TableWriter`."""
        del to_write
        owner = self._tables.owners.get(node, journal)
        if owner != journal and not adopt:
            raise NodeClaimedError(f"node {node} belongs to journal {owner}, not to {journal}")
        self._tables.owners[node] = journal
        self._node = node
        cursor, next_record = (
            self._tables.cursors.get((node, journal)),
            self._tables.next_records.get(node, 0),
        )
        self._durable = cursor.block if cursor else 0
        return Claim(cursor, next_record, next_record if cursor else None, self._durable)

    def write(
        self, cursor: Cursor | None, blocks: Sequence[ParsedBlock | DamagedBlock], journal: str
    ) -> Written:
        """Write the blocks and move the cursor; see `TableWriter`."""
        node = self._node
        if node is None or self._tables.owners[node] != journal:
            raise NodeClaimedError(f"node {node} does not belong to journal {journal}")
        if self._tables.cursors.get((node, journal)) != cursor:
            raise CursorMovedError(f"node {node} is not at {cursor}")
        total = Written(stored=0, rejected={}, unkept=0, empty=0, set_aside=0)
        for block in blocks:
            total = _sum(total, self._write(block))
            number = block.id if isinstance(block, DamagedBlock) else block.block.id
            self._tables.cursors[node, journal] = Cursor(journal, number)
            self._durable = number
        return total

    def durable(self) -> int:
        """Nothing outlives the process; see `TableWriter`."""
        return self._durable

    def requests(self) -> Requests:
        """None: nothing is asked over a network; see `TableWriter`."""
        return Requests()

    def clock(self) -> int:
        """That of this machine; see `TableWriter`."""
        return time.time_ns() // 1_000_000

    def purge(self, before: int) -> int:
        """Delete everything older in one step; see `TableWriter`."""
        tables, before = self._tables, minute_of(before)
        return sum(
            (
                _drop(tables.rejected, lambda row: row.received_at < before),
                _drop(tables.readings, lambda row: row.received_at < before),
                _drop(tables.latest, lambda row: row.received_at < before),
                _drop(tables.connections, lambda row: row.closed_at is not None and row.closed_at < before),
                _drop(tables.ledger, lambda row: row.minute < before),
            )
        )

    def close(self) -> None:
        """Nothing to let go of."""

    def _write(self, block: ParsedBlock | DamagedBlock) -> Written:
        if isinstance(block, DamagedBlock):
            at = block.stamp_us // 1000
            self._tables.count(at, block.node, block.first_record, block.records, set_aside=block.records)
            return Written(stored=0, rejected={}, unkept=0, empty=0, set_aside=block.records)
        self._open(block.block)
        self._store(block)
        reasons, unkept = self._reject(block)
        self._tally(block)
        self._close(block.block)
        stored, rejected = len(block.seqs), len(block.columns.rejects) - unkept
        self._tables.count(
            block.block.received_at,
            block.block.node,
            block.block.first_record,
            block.block.records,
            stored=stored,
            rejected=rejected,
            unkept=unkept,
            empty=block.empty,
        )
        return Written(stored=stored, rejected=reasons, unkept=unkept, empty=block.empty, set_aside=0)

    def _open(self, block: Block) -> None:
        at = block.received_at
        for event in block.events:
            if isinstance(event, Opened):
                row = self._tables.connection(block.node, event.connection, at)
                row = replace(row, opened_at=at, peer=event.peer, identity=event.identity)
                self._tables.put(row)
            elif isinstance(event, Started):
                for row in list(self._tables.connections.values()):
                    if row.node == block.node and row.closed_at is None:
                        self._tables.put(replace(row, closed_at=at, why=SERVER_LOST))

    def _close(self, block: Block) -> None:
        for event in block.events:
            if isinstance(event, Closed):
                row = self._tables.connection(block.node, event.connection, block.received_at)
                row = replace(row, closed_at=block.received_at, why=event.why, bytes=event.bytes)
                self._tables.put(row)

    def _store(self, parsed: ParsedBlock) -> None:
        columns = parsed.columns
        for place, seq in enumerate(parsed.seqs.tolist()):
            device = columns.devices[columns.codes[place]]
            values = columns.values[:, place].tolist()
            self._tables.store(Reading(device, parsed.block.received_at, seq, *values))

    def _reject(self, parsed: ParsedBlock) -> tuple[dict[str, int], int]:
        """Keep rejects as long as there is room; how many there were by reason, and not kept."""
        block = parsed.block
        reasons: dict[str, int] = {}
        unkept = 0
        for place, reject in enumerate(parsed.columns.rejects):
            reason = reject.verdict.reason.value
            reasons[reason] = reasons.get(reason, 0) + 1
            connection = int(block.chunks["connection"][parsed.reject_chunks[place]])
            row = self._tables.connection(block.node, connection, block.received_at)
            if self._has_room(block, connection):
                self._tables.rejected[block.seq(reject.index)] = Rejected(
                    seq=block.seq(reject.index),
                    received_at=block.received_at,
                    connection=connection,
                    peer=row.peer,
                    reason=reason,
                    field=reject.verdict.field,
                    device_id=reject.verdict.device_id,
                    place=parsed.stream_offset(place),
                    raw=reject.raw,
                )
                self._tables.put(replace(row, rejected=row.rejected + 1))
            else:
                self._tables.put(replace(row, unkept=row.unkept + 1))
                unkept += 1
        return reasons, unkept

    def _has_room(self, block: Block, connection: int) -> bool:
        kept = self._tables.rejected.values()
        of_minute = [
            row.connection
            for row in kept
            if from_seq(row.seq)[0] == block.node
            and minute_of(row.received_at) == minute_of(block.received_at)
        ]
        return (
            of_minute.count(connection) < self._quota.per_connection
            and len(of_minute) < self._quota.per_minute
            and len(kept) < self._quota.rows
        )

    def _tally(self, parsed: ParsedBlock) -> None:
        block = parsed.block
        for tally in parsed.tallies:
            row = self._tables.connection(block.node, int(tally["connection"]), block.received_at)
            self._tables.put(
                replace(
                    row,
                    bytes=row.bytes + int(tally["bytes"]),
                    stored=row.stored + int(tally["stored"]),
                    empty=row.empty + int(tally["empty"]),
                    unterminated=row.unterminated + int(tally["unterminated"]),
                )
            )


def _drop(table: dict[K, V], condition: Callable[[V], bool]) -> int:
    old = [key for key, row in table.items() if condition(row)]
    for key in old:
        del table[key]
    return len(old)


def _sum(one: Written, other: Written) -> Written:
    reasons = one.rejected.keys() | other.rejected.keys()
    return Written(
        stored=one.stored + other.stored,
        rejected={name: one.rejected.get(name, 0) + other.rejected.get(name, 0) for name in reasons},
        unkept=one.unkept + other.unkept,
        empty=one.empty + other.empty,
        set_aside=one.set_aside + other.set_aside,
    )
