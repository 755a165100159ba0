"""The log in a file and the reference live the same random life, and must tell the same story."""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from orders.logs.base import Level, LogPlace, LogQuery, LogRow
from orders.logs.memory import MemoryLogStore
from orders.logs.sqlite import SqliteLogStore
from orders.settings import KeepDays
from tests.orders.logs.building import ALL, DAY_MS, NOON, rows

T = TypeVar("T")

KEEP = KeepDays(INFO=1.0, WARN=2.0, ERROR=4.0, FATAL=0.5)
texts = st.sampled_from(["", "a", "A b", "Ä%", "ä_", "\x00'\"\\", "🏭a"]) | st.text(max_size=4)
times = st.sampled_from([NOON, NOON + 1]) | st.integers(NOON - 6 * DAY_MS, NOON)
ids = st.uuids(version=4)
names = st.sampled_from(["Authentication", "CustomerOrder"])
new_rows = st.builds(
    LogRow,
    id=ids,
    timestamp=times,
    user_id=texts,
    additional_info=st.dictionaries(texts, texts, max_size=3),
    level=st.sampled_from(Level),
    message=texts,
    source_component=names,
    source_file=texts,
    source_line=st.integers(0, 2**31 - 1),
)
queries = st.builds(
    LogQuery,
    start=times,
    end=times,
    level=st.none() | st.sampled_from(Level),
    user_id=st.none() | texts,
    component=st.none() | names,
    text=st.none() | texts,
    before=st.none() | st.builds(LogPlace, times, ids),
)


class Lives(RuleBasedStateMachine):
    """The same calls to both; after each they must agree."""

    @initialize()
    def begin(self) -> None:
        """Start with nothing."""
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.model = MemoryLogStore(KEEP)
        self.store = SqliteLogStore(self.folder / "log.db", KEEP)
        self.written: list[LogRow] = []

    @rule(batch=st.lists(new_rows, max_size=5), again=st.integers(0, 3))
    def append(self, batch: list[LogRow], again: int) -> None:
        """New rows, and some that are there already or were purged."""
        both = [*batch, *self.written[-again:][:again]]
        self.run(self.model.append(both))
        self.run(self.store.append(both))
        self.written += batch

    @rule(query=queries, limit=st.integers(1, 4), wide=st.booleans())
    def search(self, query: LogQuery, limit: int, *, wide: bool) -> None:
        """The same pages, cut at the same places."""
        if wide:
            query = replace(query, start=0, end=NOON + DAY_MS)
        page = self.run(self.store.query(query, limit))
        assert page == self.run(self.model.query(query, limit))
        assert self.run(rows(self.store, query, limit)) == self.run(rows(self.model, query, 10_000))

    @rule(at=times, later=st.integers(0, 2 * DAY_MS))
    def purge(self, at: int, later: int) -> None:
        """What is old goes, however many steps it takes."""
        while self.run(self.model.purge(at + later)):
            pass
        while self.run(self.store.purge(at + later)):
            pass

    @rule()
    def reopen(self) -> None:
        """A new process finds what the one before it left."""
        self.run(self.store.close())
        self.store = SqliteLogStore(self.folder / "log.db", KEEP)

    @invariant()
    def they_agree(self) -> None:
        """Everything that can be read is the same."""
        assert self.run(rows(self.store, ALL)) == self.run(rows(self.model, ALL))

    def teardown(self) -> None:
        """Let go of everything."""
        self.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def run(self, asked: Coroutine[object, object, T]) -> T:
        """The answer."""
        return self.runner.run(asked)


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=40, stateful_step_count=20)
