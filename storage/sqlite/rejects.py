"""Which rejects are kept with their bytes, and writing them.

A flood of rejects must not fill the disk. How many may still be kept is read from the tables themselves
within the transaction that keeps them, so there is no counter that a crash or a rollback could put wrong:
of a minute from its ledger row, of a connection in that minute by counting its index entries, of the
table from `nodes.kept_rejects`.
"""

from typing import Final

import apsw

from parser.block import to_seq
from parser.parsed import ParsedBlock
from storage.base import UNKNOWN_PEER, minute_of
from storage.settings import RejectQuota

_INSERT: Final = """INSERT INTO rejected_records
    VALUES (?1, ?2, ?3, coalesce((SELECT peer FROM connections WHERE connection = ?3 AND node = ?9), ?10),
            ?4, ?5, ?6, ?7, ?8)"""


class RejectKeeper:
    """Keeps the rejects of the blocks of one transaction, as far as the quota allows."""

    def __init__(self, connection: apsw.Connection, quota: RejectQuota) -> None:
        self._connection = connection
        self._quota = quota

    def keep(self, parsed: ParsedBlock) -> list[int]:
        """Write the rejects of a block whose connections are known; the places of those kept."""
        if not parsed.columns.rejects:
            return []
        kept = self._choose(parsed)
        connections = _connections_of(parsed)
        block, rejects = parsed.block, parsed.columns.rejects
        self._connection.executemany(
            _INSERT,
            [
                (
                    block.seq(rejects[place].index),
                    block.received_at,
                    connections[place],
                    rejects[place].verdict.reason.value,
                    rejects[place].verdict.field,
                    rejects[place].verdict.device_id,
                    parsed.stream_offset(place),
                    rejects[place].raw,
                    block.node,
                    UNKNOWN_PEER,
                )
                for place in kept
            ],
        )
        return kept

    def _choose(self, parsed: ParsedBlock) -> list[int]:
        first_seq, room = self._room(parsed)
        end_seq = to_seq(parsed.block.node + 1, 0)
        rooms: dict[int, int] = {}
        kept: list[int] = []
        for place, connection in enumerate(_connections_of(parsed)):
            if len(kept) >= room:
                break
            if connection not in rooms:
                rooms[connection] = self._room_of(connection, first_seq, end_seq)
            if rooms[connection] > 0:
                rooms[connection] -= 1
                kept.append(place)
        return kept

    def _room(self, parsed: ParsedBlock) -> tuple[int, int]:
        """The first seq of the block's minute, and how many rejects of it may be kept."""
        block = parsed.block
        first_seq, kept = self._connection.execute(
            "SELECT coalesce(min(first_seq), ?), coalesce(sum(rejected), 0)"
            " FROM ledger WHERE node = ? AND minute = ?",
            (block.seq(0), block.node, minute_of(block.received_at)),
        ).get
        rows = self._connection.execute("SELECT coalesce(sum(kept_rejects), 0) FROM nodes").get
        return first_seq, min(self._quota.per_minute - kept, self._quota.rows - rows)

    def _room_of(self, connection: int, first_seq: int, end_seq: int) -> int:
        kept: int = self._connection.execute(
            "SELECT count(*) FROM rejected_records WHERE connection = ? AND seq >= ? AND seq < ?",
            (connection, first_seq, end_seq),
        ).get
        return self._quota.per_connection - kept


def _connections_of(parsed: ParsedBlock) -> list[int]:
    """The connection that each reject of the block came from."""
    connections: list[int] = parsed.block.chunks["connection"][parsed.reject_chunks].tolist()
    return connections
