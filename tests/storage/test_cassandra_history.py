"""Histories longer than a page of Cassandra's answers, and than what is asked for at once."""

from contextlib import closing

import pytest

from storage.base import Position, Reading
from storage.cassandra.reader import CassandraReadingStore
from storage.cassandra.writer import CassandraTableWriter
from storage.settings import CassandraSettings
from tests.storage.building import JOURNAL, Machinery, record
from tests.support.cassandra import Cassandra

pytestmark = pytest.mark.cassandra

_EVER = 1 << 50
_ROWS = 48_000
_EACH = 100
"""Rows of one millisecond."""

_LATER_MS = 12_000


@pytest.fixture(scope="module")
def written(cassandra: Cassandra) -> CassandraSettings:
    """One machine's rows of an hour and a half, in two buckets."""
    settings = CassandraSettings(
        contact_points=tuple(cassandra.contact_points), port=cassandra.port, keyspace=cassandra.keyspace()
    )
    machinery = Machinery()
    with closing(CassandraTableWriter(settings)) as writer:
        writer.claim(machinery.node, JOURNAL, adopt=False)
        sent = [record("E0001", float(step)) * _EACH for step in range(_ROWS // _EACH)]
        blocks = [machinery.block([(1, data)], later_ms=_LATER_MS) for data in sent]
        writer.write(None, blocks, JOURNAL)
    return settings


@pytest.mark.parametrize("limit", [1, _EACH + 1, 5_000, 9_999, 10_000, 12_345, _ROWS, _ROWS + 1])
async def test_a_long_history_is_whole_and_in_order(written: CassandraSettings, limit: int) -> None:
    """Wherever pages, parts of a bucket and buckets end."""
    rows = await _history(written, limit=limit)
    assert len(rows) == min(limit, _ROWS)
    positions = [_position(row) for row in rows]
    assert positions == sorted(set(positions), reverse=True)
    assert positions == _all_positions(await _history(written, limit=_ROWS))[:limit]


async def test_pages_follow_each_other_without_a_gap(written: CassandraSettings) -> None:
    """As a client reads that asks for the next by the last position it has."""
    found: list[Position] = []
    before = None
    while page := await _history(written, limit=7_001, before=before):
        found += map(_position, page)
        before = found[-1]
    assert found == _all_positions(await _history(written, limit=_ROWS))
    assert len(found) == _ROWS


async def _history(
    settings: CassandraSettings, *, limit: int, before: Position | None = None
) -> list[Reading]:
    store = CassandraReadingStore(settings, deadline_s=30.0)
    try:
        return await store.history("E0001", 0, _EVER, limit=limit, before=before)
    finally:
        await store.close()


def _all_positions(rows: list[Reading]) -> list[Position]:
    return [_position(row) for row in rows]


def _position(row: Reading) -> Position:
    return Position(row.received_at, row.seq)
