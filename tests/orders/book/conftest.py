"""An empty book of each kind."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from orders.book.base import OrderBook
from orders.book.cassandra import CassandraOrderBook
from orders.book.memory import MemoryOrderBook
from orders.book.sqlite import SqliteOrderBook
from storage.cassandra.writer import CassandraTableWriter
from storage.settings import CassandraSettings, RejectQuota
from tests.support.cassandra import Cassandra


@pytest.fixture
def keyspace(cassandra: Cassandra) -> CassandraSettings:
    """A keyspace with the telemetry's tables, as `headrace db init` makes it."""
    settings = CassandraSettings(
        contact_points=tuple(cassandra.contact_points), port=cassandra.port, keyspace=cassandra.keyspace()
    )
    CassandraTableWriter(settings, RejectQuota(), None).close()
    return settings


@pytest_asyncio.fixture(params=["memory", "sqlite", pytest.param("cassandra", marks=pytest.mark.cassandra)])
async def book(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OrderBook]:
    """Of each kind."""
    found: OrderBook
    if request.param == "cassandra":
        found = CassandraOrderBook(request.getfixturevalue("keyspace"), deadline_s=30.0)
    else:
        found = MemoryOrderBook() if request.param == "memory" else SqliteOrderBook(tmp_path / "orders.db")
    yield found
    await found.close()
