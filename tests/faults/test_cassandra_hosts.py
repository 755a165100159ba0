"""Several hosts into one cluster: two servers, three nodes of Cassandra, three copies of each row."""

from pathlib import Path

import pytest

from devcluster import Cluster
from storage.settings import CassandraSettings
from tests.faults.cassandra_oracle import check_books, check_senders, numbers_taken, on_cassandra
from tests.faults.conftest import MakeServer, tables_on
from tests.faults.harness import Server
from tests.faults.sender import Sender

pytestmark = [pytest.mark.fault, pytest.mark.cassandra, pytest.mark.timeout(400)]


@pytest.fixture
def shared(three_nodes: Cluster) -> CassandraSettings:
    """The tables that both servers write, in a majority of three copies."""
    return tables_on(three_nodes, replication_factor=3, consistency="QUORUM")


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
