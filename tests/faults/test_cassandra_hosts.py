"""Several hosts into one cluster: two servers, three nodes of Cassandra, three copies of each row."""

from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest

from devcluster import Cluster
from parser.block import to_seq
from storage.cassandra import connect
from storage.cassandra.connect import Connected
from storage.cassandra.encoding import (
    DEVICE_BUCKETS,
    LATEST_READINGS,
    READINGS,
    Batch,
    readings_key,
    shard_of,
)
from storage.cassandra.flight import Flight
from storage.cassandra.rows import RowWriter
from storage.cassandra.schema import HOUR_MS
from storage.cassandra.tables import create_tables, use
from storage.rows import Rows
from storage.settings import CassandraSettings
from tests.faults.cassandra_oracle import check_books, check_senders, numbers_taken, on_cassandra
from tests.faults.conftest import MakeServer, tables_on
from tests.faults.harness import Server
from tests.faults.sender import Sender

pytestmark = [pytest.mark.fault, pytest.mark.cassandra, pytest.mark.timeout(900)]

_AT_US = 1_700_000_000_000_000
_YOUNG_S = 150.0
"""A node that missed a change of the schema asks for it when it is a minute old."""


@pytest.fixture
def shared(three_nodes: Cluster) -> CassandraSettings:
    """The tables that both servers write, in a majority of three copies."""
    return tables_on(three_nodes, consistency="QUORUM")


@pytest.fixture
def hosts(make_server: MakeServer, shared: CassandraSettings, tmp_path: Path) -> list[Server]:
    """Two servers with nothing in common but the tables, both running; node ids 0 and 1."""
    servers = []
    for node in range(2):
        folder = tmp_path / f"host-{node}"
        folder.mkdir()
        servers.append(make_server(on(shared, node), folder=folder))
        servers[-1].start(seconds=90)
    return servers


def on(tables: CassandraSettings, node: int) -> dict[str, dict[str, object]]:
    """The settings of the host with this node id."""
    return {**{name: dict(keys) for name, keys in on_cassandra(tables).items()}, "ingest": {"node_id": node}}


def test_a_host_that_dies_and_comes_back_loses_nothing_of_either(
    hosts: list[Server], shared: CassandraSettings, make_server: MakeServer, tmp_path: Path
) -> None:
    """Each keeps its node id; a third host that wants one of them is refused, whoever runs just then."""
    first, second = hosts
    senders = [
        Sender(f"M{number}", server.ack_port, window=500, per_second=2_000)
        for number, server in enumerate((first, first, second, second))
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.wait_for_more(1_000)
    first.kill()
    (tmp_path / "third").mkdir()
    third = make_server(on(shared, 0), folder=tmp_path / "third")
    status, said = third.refused()
    assert (status, "node 0 belongs to journal" in said) == (2, True), said
    for sender in senders[2:]:
        sender.wait_for_more(1_000)
    first.start(seconds=90)
    for sender in senders[:2]:
        sender.port = first.ack_port
        sender.wait_for_more(1_000)
    for sender in senders:
        sender.stop()
    for server in hosts:
        server.wait_drained(120)
    check_senders(shared, senders)
    check_books(shared)
    assert numbers_taken(shared).keys() == {0, 1}
    assert [server.stop() for server in hosts] == [0, 0]


def test_partitions_of_different_nodes_share_no_batch(
    three_nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the copies that the keyspace has, whatever the configuration says; and all rows arrive."""
    monkeypatch.setattr(connect, "_AGREEMENT_S", _YOUNG_S)
    made = tables_on(three_nodes, replication_factor=1, consistency="ONE")
    with closing(Connected(made)) as maker:
        create_tables(maker, None)
    settings = msgspec.structs.replace(made, replication_factor=3)
    devices = [f"E{number:03}" for number in range(120)]
    codes = np.arange(120, dtype=np.int32)
    rows = Rows(devices, codes, np.full(120, _AT_US), to_seq(0, 0) + np.arange(120), np.ones((5, 120)))
    with closing(Connected(settings)) as connected:
        writer = RowWriter(use(connected), Flight(connected), None)
        batches = [*writer.beside(rows, 0), *writer._readings(rows)]
        assert sum(len(batch.places) for batch in batches) == 3 * len(devices)
        found = [_nodes_of(connected, batch, [devices[place] for place in batch.places]) for batch in batches]
        assert all(len(nodes) == 1 for nodes in found)
        assert len(set.union(*found)) == len(three_nodes.nodes)
        writer.forget()
        assert writer.deliver(rows, 0, ()) == {}
        for table in (READINGS, LATEST_READINGS, DEVICE_BUCKETS):
            assert connected.execute(f"SELECT count(*) FROM {table}") == [(120,)]  # noqa: S608


def _nodes_of(connected: Connected, batch: Batch, devices: list[str]) -> set[tuple[str, ...]]:
    """The replica sets of the partitions in it."""
    metadata = connected.session.cluster.metadata
    hour = _AT_US // 1000 // HOUR_MS * HOUR_MS
    keys = {
        READINGS: [readings_key(device, hour) for device in devices],
        LATEST_READINGS: [shard_of(device).to_bytes(4) for device in devices],
        DEVICE_BUCKETS: [device.encode() for device in devices],
    }[batch.table]
    replicas = (metadata.get_replicas(connected.settings.keyspace, key) for key in keys)
    return {tuple(sorted(host.address for host in hosts)) for hosts in replicas}
