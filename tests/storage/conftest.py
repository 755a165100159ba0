"""Each test that takes a `store` runs against every store there is."""

from pathlib import Path

import pytest

from storage.settings import CassandraSettings, RejectQuota
from tests.storage.moving import Shop
from tests.storage.stores import EMBEDDED, CassandraStore, Store
from tests.support.cassandra import Cassandra


@pytest.fixture
def quota() -> RejectQuota:
    """How many rejects the store keeps; small, so that tests reach it."""
    return RejectQuota(per_connection=4, per_minute=6, rows=9)


@pytest.fixture(params=[*EMBEDDED, pytest.param("cassandra", marks=pytest.mark.cassandra)])
def store(request: pytest.FixtureRequest, tmp_path: Path, quota: RejectQuota) -> Store:
    """An empty store of each kind."""
    if request.param == "cassandra":
        settings: CassandraSettings = request.getfixturevalue("cassandra_settings")
        return CassandraStore(tmp_path, quota, settings)
    return EMBEDDED[request.param](tmp_path, quota)


@pytest.fixture(scope="session")
def cassandra_settings(cassandra: Cassandra) -> CassandraSettings:
    """A keyspace of its own on the cluster that all tests share."""
    return CassandraSettings(
        contact_points=tuple(cassandra.contact_points), port=cassandra.port, keyspace=cassandra.keyspace()
    )


@pytest.fixture
def shop(tmp_path: Path, quota: RejectQuota, cassandra_settings: CassandraSettings) -> Shop:
    """An embedded database that a server has written, and an empty cluster."""
    return Shop(tmp_path, quota, cassandra_settings)
