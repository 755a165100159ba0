"""What a write adds to `ledger`, `nodes` and `connections`.

Ledger and nodes take one statement per block. Connections take one per connection: what the blocks add to
their counters is summed up first, and written before anything that looks at the rows, an opening or a
closing, comes along.
"""

from typing import Final

import apsw
import msgspec
import numpy as np
from numpy.typing import NDArray

from parser.block import Block, Closed, Event, Opened, Started, to_seq
from parser.parsed import ParsedBlock
from storage.base import SERVER_LOST, UNKNOWN_PEER, DamagedBlock, LedgerMinute, minute_of

_COUNTERS: Final = ("bytes", "stored", "rejected", "unkept", "empty", "unterminated")
_SUM: Final = np.dtype([(name, "<i8") for name in ("connection", "received_at", *_COUNTERS)])

_ADD_MINUTE: Final = """INSERT INTO ledger VALUES (?,?,?,?,?,?,?,?,?)
    ON CONFLICT (node, minute) DO UPDATE SET
        first_seq = min(first_seq, excluded.first_seq),
        last_seq = max(last_seq, excluded.last_seq),
        stored = stored + excluded.stored,
        rejected = rejected + excluded.rejected,
        unkept = unkept + excluded.unkept,
        empty = empty + excluded.empty,
        set_aside = set_aside + excluded.set_aside"""

_ADD_TO_NODE: Final = """INSERT INTO nodes (node, next_record, kept_rejects) VALUES (?,?,?)
    ON CONFLICT (node) DO UPDATE SET
        next_record = max(next_record, excluded.next_record),
        kept_rejects = kept_rejects + excluded.kept_rejects"""

_OPEN: Final = """INSERT INTO connections (node, connection, opened_at, peer, identity) VALUES (?,?,?,?,?)
    ON CONFLICT (connection, node) DO UPDATE SET
        opened_at = excluded.opened_at, peer = excluded.peer, identity = excluded.identity"""

_CLOSE: Final = """INSERT INTO connections (node, connection, opened_at, peer, closed_at, why, bytes)
    VALUES (?,?,?,?,?,?,?)
    ON CONFLICT (connection, node) DO UPDATE SET
        closed_at = excluded.closed_at, why = excluded.why, bytes = excluded.bytes"""

_LOSE: Final = "UPDATE connections SET closed_at = ?, why = ? WHERE closed_at IS NULL AND node = ?"

_ADD_TO_CONNECTION: Final = """INSERT INTO connections
        (node, peer, connection, opened_at, bytes, stored, rejected, unkept, empty, unterminated)
    VALUES (?,?,?,?,?,?,?,?,?,?)
    ON CONFLICT (connection, node) DO UPDATE SET
        bytes = bytes + excluded.bytes,
        stored = stored + excluded.stored,
        rejected = rejected + excluded.rejected,
        unkept = unkept + excluded.unkept,
        empty = empty + excluded.empty,
        unterminated = unterminated + excluded.unterminated"""


class Accounts:
    """The books of one transaction's blocks; `begin` and `finish` each block in turn, then `flush`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._node = 0
        self._pending: list[NDArray[np.void]] = []

    def begin(self, block: Block) -> None:
        """Note the openings that the block brings."""
        if block.events or block.node != self._node:
            self.flush()
        self._node = block.node
        for event in block.events:
            self._open(event, block)

    def finish(self, parsed: ParsedBlock, kept: list[int]) -> None:
        """Count the block's records, of whose rejects these places were kept; then note its closings."""
        block = parsed.block
        stored, rejects = len(parsed.columns.index), len(parsed.columns.rejects)
        counts = (stored, len(kept), rejects - len(kept), parsed.empty, 0)
        self._count(block.node, block.first_record, block.records, block.received_at, counts)
        self._pending.append(_sums(parsed, kept))
        closings = [event for event in block.events if isinstance(event, Closed)]
        if closings:
            self.flush()
        for event in closings:
            self._close(event, block)

    def set_aside(self, block: DamagedBlock) -> None:
        """Count the records of a block that can't be read."""
        at = block.stamp_us // 1000
        self._count(block.node, block.first_record, block.records, at, (0, 0, 0, 0, block.records))

    def flush(self) -> None:
        """Write the counters of connections that are still pending."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        rows = _merge(np.concatenate(pending)).tolist()
        self._connection.executemany(_ADD_TO_CONNECTION, [(self._node, UNKNOWN_PEER, *row) for row in rows])

    def _count(self, node: int, first: int, records: int, at: int, counts: tuple[int, ...]) -> None:
        self._connection.execute(_ADD_TO_NODE, (node, first + records, counts[1]))
        if records:
            minute = LedgerMinute(
                node, minute_of(at), to_seq(node, first), to_seq(node, first + records - 1), *counts
            )
            self._connection.execute(_ADD_MINUTE, msgspec.structs.astuple(minute))

    def _open(self, event: Event, block: Block) -> None:
        at = block.received_at
        if isinstance(event, Opened):
            row = (block.node, event.connection, at, event.peer, event.identity)
            self._connection.execute(_OPEN, row)
        elif isinstance(event, Started):
            self._connection.execute(_LOSE, (at, SERVER_LOST, block.node))

    def _close(self, event: Closed, block: Block) -> None:
        at = block.received_at
        row = (block.node, event.connection, at, UNKNOWN_PEER, at, event.why, event.bytes)
        self._connection.execute(_CLOSE, row)


def _sums(parsed: ParsedBlock, kept: list[int]) -> NDArray[np.void]:
    """Rows of `_SUM`: what the block adds to each of its connections."""
    tallies = parsed.tallies
    sums = np.zeros(len(tallies), _SUM)
    sums["received_at"] = parsed.block.received_at
    for name in tallies.dtype.names or ():
        sums[name] = tallies[name]
    if parsed.columns.rejects:
        of_kept = parsed.block.chunks["connection"][parsed.reject_chunks[kept]]
        sums["rejected"] = 0
        np.add.at(sums["rejected"], np.searchsorted(sums["connection"], of_kept), 1)
        sums["unkept"] = tallies["rejected"] - sums["rejected"]
    return sums


def _merge(rows: NDArray[np.void]) -> NDArray[np.void]:
    """One row for each connection: its earliest time, its counters added up."""
    connections, first, place = np.unique(rows["connection"], return_index=True, return_inverse=True)
    merged = np.zeros(len(connections), _SUM)
    merged["connection"] = connections
    merged["received_at"] = rows["received_at"][first]
    for name in _COUNTERS:
        np.add.at(merged[name], place, rows[name])
    return merged
