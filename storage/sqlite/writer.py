"""The writing side of the SQLite store: one connection, one transaction for each call.

Rows, newest rows, rejects, counters and cursor of a call's blocks are committed together or not at all.
The cursor moves by compare-and-set, so a block can't be written twice, whoever tries: a replay after a
crash, a second process, an orphan.
"""

import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from parser.parsed import ParsedBlock
from storage.base import Claim, Cursor, DamagedBlock, Requests, Written, minute_of
from storage.errors import CursorMovedError, NodeClaimedError
from storage.rows import Rows
from storage.settings import RejectQuota
from storage.sqlite.accounts import Accounts
from storage.sqlite.connect import open_for_writing, transaction
from storage.sqlite.insert import forward_latest, insert_readings
from storage.sqlite.purge import Purge
from storage.sqlite.rejects import RejectKeeper


class SqliteTableWriter:
    """A `TableWriter` on one database file, which it makes where there is none.

    Raises:
        SchemaError: the file is not one of ours, or of another version.
        StorageError: it can't be opened.
    """

    def __init__(self, path: Path, quota: RejectQuota | None = None) -> None:
        self._path = path
        self._quota = quota or RejectQuota()
        self._connection = open_for_writing(path)
        self._purge = Purge(self._connection)
        self._node: int | None = None
        self._durable = 0

    def claim(self, node: int, journal: str, *, adopt: bool, to_write: bool = True) -> Claim:
        """Take the node for a journal; see `TableWriter`."""
        del to_write  # nothing is ever forgotten here
        with transaction(self._connection, self._path):
            owner = self._owner(node)
            if owner not in (None, journal) and not adopt:
                raise NodeClaimedError(
                    f"{self._path}: node {node} belongs to journal {owner}, not to {journal}; "
                    "give this server another ingest.node_id, or adopt the node if that journal is lost"
                )
            next_record: int = self._connection.execute(
                "INSERT INTO nodes (node, journal) VALUES (?, ?)"
                " ON CONFLICT (node) DO UPDATE SET journal = excluded.journal RETURNING next_record",
                (node, journal),
            ).get
            cursor = self._cursor(node, journal)
        self._node = node
        self._durable = cursor.block if cursor else 0
        return Claim(cursor, next_record, next_record if cursor else None, self._durable)

    def write(
        self, cursor: Cursor | None, blocks: Sequence[ParsedBlock | DamagedBlock], journal: str
    ) -> Written:
        """Write the blocks and move the cursor, all at once; see `TableWriter`."""
        with transaction(self._connection, self._path):
            self._move_cursor(cursor, blocks, journal)
            written = self._write(blocks)
        if blocks:
            self._durable = _id_of(blocks[-1])
        return written

    def durable(self) -> int:
        """The last block that was written: its commit was synced; see `TableWriter`."""
        return self._durable

    def requests(self) -> Requests:
        """None: nothing is asked over a network; see `TableWriter`."""
        return Requests()

    def clock(self) -> int:
        """That of this machine; see `TableWriter`."""
        return time.time_ns() // 1_000_000

    def purge(self, before: int) -> int:
        """Delete a small step of what is old; see `TableWriter`."""
        with transaction(self._connection, self._path):
            return self._purge.step(minute_of(before))

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def _owner(self, node: int | None) -> str | None:
        owner: str | None = self._connection.execute("SELECT journal FROM nodes WHERE node = ?", (node,)).get
        return owner

    def _cursor(self, node: int | None, journal: str) -> Cursor | None:
        block = self._connection.execute(
            "SELECT block FROM cursors WHERE node = ? AND journal = ?", (node, journal)
        ).get
        return None if block is None else Cursor(journal, block)

    def _move_cursor(
        self, cursor: Cursor | None, blocks: Sequence[ParsedBlock | DamagedBlock], journal: str
    ) -> None:
        owner = self._owner(self._node)
        if owner != journal:
            raise NodeClaimedError(
                f"{self._path}: node {self._node} belongs to journal {owner}, not {journal}"
            )
        found = self._cursor(self._node, journal)
        if found != cursor:
            raise CursorMovedError(f"{self._path}: node {self._node} is at {found}, not at {cursor}")
        ids = [cursor.block if cursor else 0, *map(_id_of, blocks)]
        if any(later <= earlier for earlier, later in pairwise(ids)):
            raise ValueError(f"blocks must ascend from the cursor on: {ids}")
        if blocks:
            self._connection.execute(
                "INSERT INTO cursors VALUES (?, ?, ?)"
                " ON CONFLICT (node, journal) DO UPDATE SET block = excluded.block",
                (self._node, journal, ids[-1]),
            )

    def _write(self, blocks: Sequence[ParsedBlock | DamagedBlock]) -> Written:
        accounts = Accounts(self._connection)
        keeper = RejectKeeper(self._connection, self._quota)
        readable: list[ParsedBlock] = []
        rejected: Counter[str] = Counter()
        kept_rejects = 0
        for block in blocks:
            if isinstance(block, DamagedBlock):
                accounts.set_aside(block)
                continue
            accounts.begin(block.block)
            kept = keeper.keep(block)
            accounts.finish(block, kept)
            kept_rejects += len(kept)
            rejected.update(reject.verdict.reason.value for reject in block.columns.rejects)
            readable.append(block)
        accounts.flush()
        rows = Rows.of(readable)
        insert_readings(self._connection, rows)
        forward_latest(self._connection, rows)
        return Written(
            stored=len(rows.seqs),
            rejected=dict(rejected),
            unkept=rejected.total() - kept_rejects,
            empty=sum(parsed.empty for parsed in readable),
            set_aside=sum(block.records for block in blocks if isinstance(block, DamagedBlock)),
        )


def _id_of(block: ParsedBlock | DamagedBlock) -> int:
    return block.id if isinstance(block, DamagedBlock) else block.block.id
