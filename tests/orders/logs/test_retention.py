"""Each level is kept for a time of its own."""

import time
from contextlib import closing
from pathlib import Path

import pytest

from orders.logs.base import Level, LogStore
from orders.logs.cassandra import CassandraLogStore
from orders.logs.memory import MemoryLogStore
from orders.logs.sqlite import SqliteLogStore
from orders.settings import KeepDays
from storage.cassandra.connect import Connected
from storage.cassandra.tables import use
from storage.settings import CassandraSettings
from tests.orders.logs.building import DAY_MS, NOON, row, rows

KEEP = KeepDays(INFO=1.0, WARN=2.5, ERROR=10.0, FATAL=36_500.0)
LIVES = {Level.INFO: 1.0, Level.WARN: 2.5, Level.ERROR: 10.0}
"""In days; FATAL is for ever here."""


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_what_is_over_is_purged_by_level(kind: str, tmp_path: Path) -> None:
    """To the millisecond; what is not over stays, whatever else goes."""
    store: LogStore = SqliteLogStore(tmp_path / "log.db", KEEP) if kind == "sqlite" else MemoryLogStore(KEEP)
    old = [row(NOON - int(days * DAY_MS) - 1, level=level) for level, days in LIVES.items()]
    young = [row(NOON - int(days * DAY_MS), level=level) for level, days in LIVES.items()]
    ancient = row(NOON - 18_000 * DAY_MS, level=Level.FATAL)
    await store.append([*old, *young, ancient])
    deleted = 0
    while step := await store.purge(NOON):
        deleted += step
    assert deleted == len(old)
    assert await rows(store) == [*young, ancient]
    await store.close()


async def test_a_purge_goes_in_small_steps(tmp_path: Path) -> None:
    """So that what is written meanwhile never waits long."""
    store = SqliteLogStore(tmp_path / "log.db", KEEP)
    await store.append([row(NOON - 30 * DAY_MS + place, level=Level.INFO) for place in range(1_300)])
    await store.append([row(NOON - 30 * DAY_MS, level=Level.WARN), row(NOON)])
    steps = []
    while step := await store.purge(NOON):
        steps.append(step)
    assert sum(steps) == 1_301
    assert max(steps) <= 500
    assert len(await rows(store)) == 1
    await store.close()


@pytest.mark.cassandra
async def test_rows_of_a_cluster_have_their_levels_life(cassandra_settings: CassandraSettings) -> None:
    """Counted from the writing; what Cassandra can't count stays. So do the hours that say where rows are."""
    store = CassandraLogStore(cassandra_settings, KEEP, deadline_s=30.0)
    await store.append([row(NOON, level=level, reason="none") for level in Level])
    with closing(Connected(cassandra_settings)) as connected:
        use(connected)
        lives = dict(connected.execute("SELECT level, TTL(message) FROM log"))
        hours = dict(connected.execute("SELECT level, hour FROM log_hours"))
    assert lives.pop("FATAL") is None
    for level, days in LIVES.items():
        assert days * 86_400 - 600 < lives[level] <= days * 86_400
    assert hours.keys() == set(Level)
    assert await store.purge(NOON + 40_000 * DAY_MS) == 0
    await store.close()


@pytest.mark.cassandra
async def test_a_row_of_a_cluster_goes_by_itself(cassandra_settings: CassandraSettings) -> None:
    """Its column values and its place; other levels stay."""
    store = CassandraLogStore(cassandra_settings, KeepDays(INFO=1 / 86_400), deadline_s=30.0)
    kept = row(NOON, level=Level.WARN)
    await store.append([kept, row(NOON, level=Level.INFO)])
    deadline = time.monotonic() + 60.0
    while len(await rows(store)) > 1:
        assert time.monotonic() < deadline
    assert await rows(store) == [kept]
    await store.close()
