"""The writing side of the Cassandra store; what makes it safe to write anything twice is told in the package.

One call to `write`: rows, newest rows, rejects and directories go out together; when all are confirmed,
the books; when these are, the cursor moves by compare-and-set. A call takes four round trips beside the
rows.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

from parser.parsed import ParsedBlock
from storage.base import Claim, Cursor, DamagedBlock, Requests, Written
from storage.cassandra.books import CassandraAccounts
from storage.cassandra.claims import Claims, Place
from storage.cassandra.connect import Connected
from storage.cassandra.days import note_day
from storage.cassandra.expiry import countable_s
from storage.cassandra.flight import Flight
from storage.cassandra.meaning import meaning
from storage.cassandra.purge import CassandraPurge
from storage.cassandra.rejects import CassandraRejects, connections_of
from storage.cassandra.rows import RowWriter
from storage.cassandra.schema import day_of, expiring, life_s
from storage.cassandra.tables import check_tables, create_tables
from storage.rows import Rows
from storage.settings import CassandraSettings, RejectQuota

_ASIDE: Final = """INSERT INTO set_aside_records (node, day, seq, received_at, device_id, reading, why)
    VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"""


class CassandraTableWriter:
    """A `TableWriter` on a cluster; keyspace and tables are made where there are none.

    Raises:
        SchemaError: the keyspace is not ours, or of another version.
        StorageError: no node can be reached.
    """

    def __init__(
        self,
        settings: CassandraSettings,
        quota: RejectQuota | None = None,
        keep_days: float | None = None,
        *,
        recount_s: float = 60.0,
    ) -> None:
        self._settings = settings
        self._quota = quota or RejectQuota()
        self._life_s = None if keep_days is None else life_s(keep_days, settings.bucket_hours)
        self._recount_s = recount_s
        self._connected = Connected(settings)
        try:
            create_tables(self._connected, keep_days)
            check_tables(self._connected)
            self._prepare()
        except BaseException:
            self._connected.close()
            raise

    def _prepare(self) -> None:
        connected = self._connected
        self._flight = Flight(connected)
        self._claims = Claims(connected)
        self._rows = RowWriter(connected, self._flight, self._life_s)
        self._purge = CassandraPurge(connected, self._flight, whole_buckets=self._life_s is not None)
        self._known_days: set[int] = set()

    def claim(self, node: int, journal: str, *, adopt: bool, to_write: bool = True) -> Claim:
        """Take the node for a journal; see `TableWriter`."""
        claim = self._claims.claim(node, journal, adopt=adopt, to_write=to_write)
        self._accounts = CassandraAccounts(self._connected, node)
        self._rejects = CassandraRejects(self._connected, node, self._quota, self._recount_s)
        self._forget()
        return claim

    def write(
        self, cursor: Cursor | None, blocks: Sequence[ParsedBlock | DamagedBlock], journal: str
    ) -> Written:
        """Write the blocks, then move the cursor; see `TableWriter`."""
        self._claims.check(cursor, journal)
        ids = [cursor.block if cursor else 0, *map(_id_of, blocks)]
        if any(later <= earlier for earlier, later in pairwise(ids)):
            raise ValueError(f"blocks must ascend from the cursor on: {ids}")
        if not blocks:
            return Written(stored=0, rejected={}, unkept=0, empty=0, set_aside=0)
        try:
            return self._write(cursor, blocks)
        except BaseException:
            self._forget()
            raise

    def durable(self) -> int:
        """The block up to which nothing can be lost any more; see `TableWriter`."""
        return self._claims.durable()

    def clock(self) -> int:
        """That of one of its nodes; see `TableWriter`."""
        return self._connected.clock()

    def purge(self, before: int) -> int:
        """Delete a small step of what is old; see `TableWriter`."""
        self._claims.require()
        self._forget()
        return self._purge.step(before)

    def _forget(self) -> None:
        """Know nothing of the tables any more."""
        self._accounts.forget_all()
        self._rejects.forget()
        self._rows.forget()
        self._known_days.clear()

    def requests(self) -> Requests:
        """What was asked of the cluster since the last call; see `TableWriter`."""
        return self._flight.requests()

    def close(self) -> None:
        """Let go of the cluster."""
        self._connected.close()

    def _write(self, cursor: Cursor | None, blocks: Sequence[ParsedBlock | DamagedBlock]) -> Written:
        readable = [block for block in blocks if isinstance(block, ParsedBlock)]
        rows = Rows.of(readable)
        self._accounts.load(blocks)
        kept = self._keep(blocks)
        aside = self._rows.deliver(rows, self._claims.node, self._beside_rows(blocks, kept))
        by_block = self._set_aside(rows, readable, aside)
        self._book(blocks, kept, by_block)
        self._deliver(self._accounts.statements())
        self._claims.move(cursor, _place_of(blocks[-1]))
        return _written(blocks, kept, len(aside))

    def _keep(self, blocks: Sequence[ParsedBlock | DamagedBlock]) -> dict[int, list[int]]:
        """Which rejects of each block (by its id) are kept; openings are noted on the way."""
        self._rejects.begin(self._ttl())
        kept: dict[int, list[int]] = {}
        for block in blocks:
            if isinstance(block, ParsedBlock):
                self._accounts.begin(block)
                kept[block.block.id] = self._rejects.keep(block, self._accounts)
        return kept

    def _beside_rows(
        self, blocks: Sequence[ParsedBlock | DamagedBlock], kept: dict[int, list[int]]
    ) -> Iterator[Any]:
        """What of the blocks can go at the same time as the rows."""
        yield from self._new_days(blocks)
        for block in blocks:
            if isinstance(block, ParsedBlock):
                yield from self._rejects.statements(block, kept[block.block.id], self._accounts)

    def _deliver(self, statements: Iterator[Any]) -> None:
        """Send what must not be refused."""
        refused = self._flight.deliver(statements)
        if refused:
            check_tables(self._connected)
            raise meaning(self._settings, refused[0].error)

    def _new_days(self, blocks: Sequence[ParsedBlock | DamagedBlock]) -> Iterator[Any]:
        """The days of the node that nobody has noted yet."""
        new = self._accounts.days(blocks) - self._known_days
        for day in new:
            yield note_day(self._connected, self._claims.node, day, _stamp_of(blocks[-1]))
        self._known_days |= new

    def _set_aside(
        self, rows: Rows, readable: list[ParsedBlock], aside: dict[int, str]
    ) -> dict[int, Counter[int]]:
        """Keep what was refused, with the reason; how many rows of each block and connection these were."""
        if not aside:
            return {}
        self._deliver(self._aside_statements(rows, aside))
        found: dict[int, Counter[int]] = {}
        seqs = rows.seqs[list(aside)]
        for block in readable:
            connections = block.connections_of(block.columns.index[np.isin(block.seqs, seqs)])
            if connections:
                found[block.block.id] = Counter(connections)
        return found

    def _ttl(self) -> int | None:
        """How long what is written now lives, in seconds; 0 or None is for ever."""
        return None if self._life_s is None else countable_s(self._life_s)

    def _aside_statements(self, rows: Rows, aside: dict[int, str]) -> Iterator[Any]:
        cql, ttl = expiring(_ASIDE, self._ttl())
        for place, why in aside.items():
            stamp_us = int(rows.stamps[place])
            at = stamp_us // 1000
            yield self._connected.bound(
                cql,
                self._claims.node,
                day_of(at),
                int(rows.seqs[place]),
                at,
                rows.devices[int(rows.codes[place])],
                tuple(rows.values[:, place].tolist()),
                why,
                stamp_us,
                *ttl,
            )

    def _book(
        self,
        blocks: Sequence[ParsedBlock | DamagedBlock],
        kept: dict[int, list[int]],
        aside: dict[int, Counter[int]],
    ) -> None:
        for block in blocks:
            if isinstance(block, DamagedBlock):
                self._accounts.set_aside(block)
                continue
            connections = connections_of(block)
            of_kept = Counter(connections[place] for place in kept[block.block.id])
            self._accounts.finish(block, of_kept, aside.get(block.block.id, Counter()))


def _id_of(block: ParsedBlock | DamagedBlock) -> int:
    return block.id if isinstance(block, DamagedBlock) else block.block.id


def _stamp_of(block: ParsedBlock | DamagedBlock) -> int:
    return block.stamp_us if isinstance(block, DamagedBlock) else block.block.stamp_us


def _place_of(block: ParsedBlock | DamagedBlock) -> Place:
    if isinstance(block, DamagedBlock):
        return Place(block.id, block.first_record + block.records)
    return Place(block.block.id, block.block.next_record)


def _written(blocks: Sequence[ParsedBlock | DamagedBlock], kept: dict[int, list[int]], aside: int) -> Written:
    readable = [block for block in blocks if isinstance(block, ParsedBlock)]
    rejected = Counter(reject.verdict.reason.value for block in readable for reject in block.columns.rejects)
    damaged = sum(block.records for block in blocks if isinstance(block, DamagedBlock))
    return Written(
        stored=sum(len(block.columns.index) for block in readable) - aside,
        rejected=dict(rejected),
        unkept=rejected.total() - sum(map(len, kept.values())),
        empty=sum(block.empty for block in readable),
        set_aside=damaged + aside,
    )
