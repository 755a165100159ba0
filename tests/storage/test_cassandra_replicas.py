"""Which nodes hold a partition: by what the cluster says, and not for longer than it is so."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from storage.cassandra.connect import Connected
from storage.cassandra.replicas import Replicas, all_hold_all
from storage.cassandra.schema import keyspace_cql
from storage.settings import CassandraSettings

SIMPLE = {"class": "SimpleStrategy", "replication_factor": "3"}
PLANT = {"class": "NetworkTopologyStrategy", "plant": "3"}
BOTH = {**PLANT, "office": "1"}


@pytest.mark.parametrize(
    ("replication", "hosts", "same"),
    [
        (SIMPLE, {"plant": 3}, True),
        (SIMPLE, {"plant": 4}, False),
        (SIMPLE, {"plant": 2, "office": 2}, False),
        (PLANT, {"plant": 1}, True),
        (PLANT, {"plant": 3}, True),
        (PLANT, {"plant": 4}, False),
        (PLANT, {"plant": 3, "office": 5}, True),
        (BOTH, {"plant": 3, "office": 1}, True),
        (BOTH, {"plant": 3, "office": 2}, False),
    ],
)
def test_all_nodes_hold_all_where_there_are_as_many_copies(
    replication: dict[str, str], hosts: dict[str, int], *, same: bool
) -> None:
    """In each datacenter that has any."""
    assert all_hold_all(replication, hosts) is same


@pytest.fixture
def connected(cassandra_settings: CassandraSettings) -> Iterator[Connected]:
    with closing(Connected(cassandra_settings)) as connected:
        connected.define(keyspace_cql(cassandra_settings.keyspace, connected.datacenter, 1))
        yield connected


@pytest.mark.cassandra
def test_a_node_that_joins_is_noticed(connected: Connected, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a minute: what was known of partitions is forgotten by then."""
    clock = [100.0]
    replicas = Replicas(connected, now=lambda: clock[0])
    assert replicas.sets() is None
    metadata = connected.session.cluster.metadata
    (host,) = metadata.all_hosts()
    monkeypatch.setattr(metadata, "all_hosts", lambda: [host, host])
    clock[0] += 59.0
    assert replicas.sets() is None
    clock[0] += 1.0
    sets = replicas.sets()
    assert sets is not None
    assert sets(b"E0001") == (str(host.endpoint),)
    assert replicas.sets() is sets
    clock[0] += 60.0
    assert replicas.sets() not in (sets, None)
