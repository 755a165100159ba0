"""A store and the reference are driven by the same random life, and must tell the same story.

Blocks are made from bytes by the real framing and parser; between them servers restart, writes fail half
way, blocks are replayed, nodes change hands, rejects are accepted and minutes purged.
"""

import asyncio
import copy
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch
from uuid import UUID

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from parser.framing import Ending
from parser.parsed import ParsedBlock
from parser.verdicts import Accepted
from storage.base import MINUTE_MS, Connection, Cursor, DamagedBlock, Reading, ReadingStore, Rejected
from storage.cassandra.connect import Connected
from storage.cassandra.writer import CassandraTableWriter
from storage.errors import CursorMovedError, NodeClaimedError, StorageError, StoreUnavailableError
from storage.reconcile import reconcile
from storage.settings import CassandraSettings, RejectQuota
from tests.storage.building import STARTED, Machinery, closed, opened, record
from tests.storage.stores import CassandraStore, CheckedStore, MemoryStore, SqliteStore

T = TypeVar("T")

EVER = 1 << 62
DEVICES = ("E0001", "E0002", "~", "x" * 64)
numbers = st.floats(allow_nan=False, allow_infinity=False)
records = st.builds(record, st.sampled_from(DEVICES), numbers, numbers)
garbage = st.sampled_from(
    [b"#", b" #", b"no#", b"E0002,1,2,3,4,nan#", b"E0001,1,2,3,4,5,6#", b"y" * 600 + b"#"]
)
pieces = st.one_of(records, records, garbage, st.just(b"E0001,1,"), st.binary(max_size=6))
sendings = st.lists(pieces, min_size=1, max_size=6).map(b"".join)
traffic = st.lists(st.tuples(st.integers(0, 4), sendings), min_size=1, max_size=4)
endings = st.sampled_from([Ending.CLEAN, Ending.STRICT, Ending.RESET])
ticks = st.fixed_dictionaries(
    {
        "sent": traffic,
        "openings": st.integers(0, 2),
        "unseen": st.sampled_from([0, 0, 1]),
        "endings": st.lists(endings, max_size=1),
        "starts": st.sampled_from([False] * 7 + [True]),
        "later_ms": st.sampled_from([0, 1, 20, 40_000, 3 * MINUTE_MS]),
    }
)


class Lives(RuleBasedStateMachine):
    """The same calls to both stores; after each the tables must agree."""

    @abstractmethod
    def open_store(self, folder: Path, quota: RejectQuota) -> CheckedStore:
        """The store that is held against the reference, empty."""

    @initialize()
    def begin(self) -> None:
        """Start with empty tables and one node."""
        self.folder = Path(tempfile.mkdtemp())
        quota = RejectQuota(per_connection=3, per_minute=5, rows=8)
        self.model = MemoryStore(self.folder, quota)
        self.store = self.open_store(self.folder, quota)
        self.writers = [self.model.writer(), self.store.writer()]
        self.readers = [self.model.reader(), self.store.reader()]
        self.runner = asyncio.Runner()
        self.machinery = Machinery()
        self.journals = 1
        self.written: list[ParsedBlock | DamagedBlock] = []
        """Of the present journal."""

        self.alive = [1, 2]
        self.connections = 2
        for writer in self.writers:
            writer.claim(self.machinery.node, self.machinery.journal, adopt=False)

    @rule(calls=st.lists(ticks, min_size=1, max_size=3))
    def write(self, calls: list[dict[str, Any]]) -> None:
        """Blocks are written, several at once, and both count them alike."""
        cursor = self.machinery.cursor
        self._write(cursor, [self._tick(**call) for call in calls])

    @rule(lost=st.integers(0, 5), tick=ticks)
    def write_around_damage(self, lost: int, tick: dict[str, Any]) -> None:
        """A block that the journal could not read takes its numbers with it."""
        cursor = self.machinery.cursor
        self._write(cursor, [self.machinery.damaged(lost), self._tick(**tick)])

    def _write(self, cursor: Cursor | None, blocks: Sequence[ParsedBlock | DamagedBlock]) -> None:
        one, other = (writer.write(cursor, blocks, self.machinery.journal) for writer in self.writers)
        assert one == other
        self.written += blocks

    @rule(tick=ticks)
    def replay(self, tick: dict[str, Any]) -> None:
        """A block that is there already changes nothing."""
        before = self.machinery.cursor
        block = self._tick(**tick)
        self._write(before, [block])
        for writer in self.writers:
            with pytest.raises(CursorMovedError):
                writer.write(before, [block], self.machinery.journal)

    @rule()
    def reopen(self) -> None:
        """A new process finds what the one before it left."""
        self.writers[1].close()
        self.writers[1] = self.store.writer()
        claims = [
            writer.claim(self.machinery.node, self.machinery.journal, adopt=False) for writer in self.writers
        ]
        assert claims[0] == claims[1]
        assert claims[1].cursor == self.machinery.cursor

    @rule(node=st.integers(3, 4))
    def change_hands(self, node: int) -> None:
        """A node goes to another journal only if it is adopted, and its numbers go on."""
        self.journals += 1
        journal = f"journal-{self.journals}"
        if node == self.machinery.node:
            for writer in self.writers:
                with pytest.raises(NodeClaimedError):
                    writer.claim(node, journal, adopt=False)
        one, other = (writer.claim(node, journal, adopt=True) for writer in self.writers)
        assert one == other
        assert one.cursor is None
        stamp_us = self.machinery.stamp_us
        self.machinery = Machinery(
            node=node, journal=journal, at=self.machinery.at, record=max(one.next_record, 0)
        )
        self.machinery.stamp_us = stamp_us
        self.alive, self.written = [], []

    @rule(back=st.integers(0, 5 * MINUTE_MS))
    def purge(self, back: int) -> None:
        """What is old goes, however many steps it takes."""
        for writer in self.writers:
            while writer.purge(self.machinery.at - back):
                pass

    @rule(place=st.integers(0, 3), device=st.sampled_from(DEVICES))
    def accept(self, place: int, device: str) -> None:
        """A reject that is now understood becomes a reading."""
        quarantines = [self.model.quarantine(), self.store.quarantine()]
        one, other = (quarantine.page(0, 4) for quarantine in quarantines)
        assert one == other
        for quarantine in quarantines:
            for reject in one[place : place + 1]:
                assert quarantine.accept(reject, Accepted(device, (1.0, 2.0, 3.0, 4.0, 5.0)))
                assert not quarantine.accept(reject, Accepted(device, (1.0, 2.0, 3.0, 4.0, 5.0)))
            quarantine.close()

    @invariant()
    def the_tables_agree(self) -> None:
        """Everything that can be read is the same."""
        one, other = (self._run(_everything(reader)) for reader in self.readers)
        assert one == other

    @invariant()
    def the_books_add_up(self) -> None:
        """Counting the rows finds what the ledger says, whatever was purged or accepted."""
        books = self.store.books()
        assert reconcile(books, waiting=None).findings == []
        books.close()

    def teardown(self) -> None:
        """Let go of everything."""
        for writer in self.writers:
            writer.close()
        for reader in self.readers:
            self._run(reader.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def _tick(
        self,
        *,
        sent: list[tuple[int, bytes]],
        openings: int,
        unseen: int,
        endings: list[Ending],
        starts: bool,
        later_ms: int,
    ) -> ParsedBlock:
        if starts:
            self.alive = []
        new = range(self.connections + 1, self.connections + openings + 1)
        self.connections += openings + unseen
        self.alive += range(new.start, self.connections + 1)
        ends = list(zip(self.alive, endings, strict=False))
        heard = [(self.alive[place % len(self.alive)], data) for place, data in sent if self.alive]
        self.alive = self.alive[len(ends) :]
        return self.machinery.block(
            heard,
            events=(
                *([STARTED] if starts else []),
                *map(opened, new),
                *(closed(connection, 5) for connection, _ in ends),
            ),
            ends=ends,
            later_ms=later_ms,
        )

    def _run(self, reading: Coroutine[object, object, T]) -> T:
        return self.runner.run(reading)


async def _everything(
    reader: ReadingStore,
) -> tuple[list[object], list[Connection], list[Rejected], list[Reading]]:
    devices = await reader.devices(limit=99)
    history = [row for name in DEVICES for row in await reader.history(name, 0, EVER, limit=9_999)]
    rejects = await reader.rejects(limit=9_999)
    for name in DEVICES:
        rejects += await reader.rejects(device_id=name, limit=9)
    ledger = await reader.ledger(0, EVER)
    return [*devices, *ledger], await reader.connections(limit=9_999), rejects, history


class SqliteLives(Lives):
    """The embedded database."""

    def open_store(self, folder: Path, quota: RejectQuota) -> SqliteStore:
        """An empty file."""
        return SqliteStore(folder, quota)

    @rule(tick=ticks)
    def fail_half_way(self, tick: dict[str, Any]) -> None:
        """A row that the tables refuse takes back all that was written with it."""
        lives = self.machinery, self.alive, self.connections
        self.machinery, self.alive = copy.deepcopy(self.machinery), list(self.alive)
        cursor = self.machinery.cursor
        blocks = [self._tick(**tick), self.machinery.block([(1, b"#" + record("E0001"))])]
        blocks[1].columns.values[:] = np.nan
        with pytest.raises(StorageError):
            self.writers[1].write(cursor, blocks, self.machinery.journal)
        self.machinery, self.alive, self.connections = lives


class CassandraLives(Lives):
    """A cluster: writes break off anywhere, and nodes forget."""

    settings: CassandraSettings

    def open_store(self, folder: Path, quota: RejectQuota) -> CassandraStore:
        """An empty keyspace; what its nodes say of their starts is ours to say."""
        self.starts = 0

        def pretended(connected: Connected, **how: float) -> dict[UUID, int]:
            return {host: started + self.starts for host, started in generations(connected, **how).items()}

        self.pretence = patch.object(Connected, "generations", pretended)
        self.pretence.start()
        return CassandraStore(folder, quota, self.settings)

    @rule(calls=st.lists(ticks, min_size=2, max_size=3), apart=st.booleans())
    def break_off(self, calls: list[dict[str, Any]], *, apart: bool) -> None:
        """All was written but the cursor; the same blocks come again, together or one by one."""
        cursor = self.machinery.cursor
        blocks = [self._tick(**call) for call in calls]
        writer = self.writers[1]
        assert isinstance(writer, CassandraTableWriter)
        gone = StoreUnavailableError("gone")
        with patch.object(writer._claims, "move", side_effect=gone), pytest.raises(StoreUnavailableError):
            writer.write(cursor, blocks, self.machinery.journal)
        if not apart:
            self._write(cursor, blocks)
            return
        for block in blocks:
            self._write(cursor, [block])
            cursor = Cursor(self.machinery.journal, block.block.id)

    @rule(at_once=st.booleans())
    def go_back(self, *, at_once: bool) -> None:
        """A node of the cluster started anew: everything that is not durable is written again."""
        self.starts += 1
        writer, journal = self.writers[1], self.machinery.journal
        claim = writer.claim(self.machinery.node, journal, adopt=False)
        assert claim.cursor is None
        assert claim.reached == len(self.written)
        if at_once and self.written:
            writer.write(None, self.written, journal)
        cursor = None
        for number, block in enumerate([] if at_once else self.written, 1):
            writer.write(cursor, [block], journal)
            cursor = Cursor(journal, number)

    def teardown(self) -> None:
        """The nodes say again when they were started."""
        super().teardown()
        self.pretence.stop()


generations = Connected.generations

TestSqliteLives = SqliteLives.TestCase
TestSqliteLives.settings = settings(max_examples=40, stateful_step_count=25)


@pytest.mark.cassandra
@pytest.mark.timeout(600)
def test_cassandra_lives(cassandra_settings: CassandraSettings) -> None:
    """The same on a cluster; fewer lives, as each step asks it some hundred times."""
    CassandraLives.settings = cassandra_settings
    run_state_machine_as_test(
        CassandraLives,
        settings=settings(
            max_examples=6, stateful_step_count=12, phases=[Phase.explicit, Phase.reuse, Phase.generate]
        ),
    )
