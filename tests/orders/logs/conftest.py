"""Each test that takes a `store` runs against every log there is."""

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from orders.logs.base import LogStore
from orders.logs.cassandra import PART, CassandraLogStore
from orders.logs.memory import MemoryLogStore
from orders.logs.sqlite import SqliteLogStore
from orders.settings import KeepDays
from storage.cassandra.connect import Connected
from storage.cassandra.tables import create_tables, tables_of, use
from storage.settings import CassandraSettings
from tests.support.cassandra import Cassandra


@pytest.fixture(scope="session")
def log_keyspace(cassandra: Cassandra) -> CassandraSettings:
    """A keyspace that holds the telemetry's tables already."""
    settings = CassandraSettings(
        contact_points=tuple(cassandra.contact_points), port=cassandra.port, keyspace=cassandra.keyspace()
    )
    with closing(Connected(settings)) as connected:
        create_tables(connected, None)
    return settings


@pytest.fixture
def cassandra_settings(log_keyspace: CassandraSettings) -> CassandraSettings:
    """The same, with an empty log."""
    with closing(Connected(log_keyspace)) as connected:
        use(connected)
        for table in PART.tables.keys() & tables_of(connected).keys():
            connected.execute(f"TRUNCATE {table}")
    return log_keyspace


@pytest.fixture(params=["memory", "sqlite", pytest.param("cassandra", marks=pytest.mark.cassandra)])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> LogStore:
    """An empty log of each kind."""
    if request.param == "cassandra":
        return CassandraLogStore(request.getfixturevalue("cassandra_settings"), KeepDays(), deadline_s=30.0)
    if request.param == "sqlite":
        return SqliteLogStore(tmp_path / "log.db", KeepDays())
    return MemoryLogStore(KeepDays())


@pytest.fixture
async def store(made: LogStore) -> AsyncIterator[LogStore]:
    yield made
    await made.close()
