"""A real node: it answers, stands still, is killed, comes back with its data, and is stopped by another."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cassandra.cluster import Cluster as Driver
from cassandra.cluster import Session

from devcluster import Cluster, missing
from devcluster.errors import FolderError, NodetoolError, NotRunningError, StartError
from devcluster.hello import answers
from storage.settings import CassandraSettings
from tests.support.needing import need

pytestmark = [pytest.mark.cassandra, pytest.mark.timeout(300)]

SYNCED = {"commitlog_sync": "batch", "commitlog_sync_period": "0ms"}
"""As it is by default, a killed node loses what it acknowledged in the last tenth of a second or so."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node that syncs before it acknowledges, in a folder whose name could be misread."""
    need(not missing(), missing())
    folder = tmp_path_factory.mktemp("a folder, 100%")
    cluster = Cluster(folder, port=0, settings=SYNCED, heap_mib=1024, short_lived=True)
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(made: Cluster) -> Cluster:
    """The node, running."""
    made.start()
    return made


@pytest.fixture
def session(cluster: Cluster) -> Iterator[Session]:
    """A connection of the driver."""
    with driver(cluster) as connected:
        yield connected.connect()


def driver(cluster: Cluster) -> Driver:
    """The driver, with patience: the node may just have started, and the machine be busy."""
    return Driver(
        cluster.contact_points,
        port=cluster.port,
        protocol_version=4,
        connect_timeout=30,
        control_connection_timeout=30,
    )


def call(cluster: Cluster, *arguments: str) -> str:
    """What `python -m devcluster` says about the folder of this cluster, from a process of its own."""
    command = [sys.executable, "-m", "devcluster", *arguments, "--folder", str(cluster.folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_it_answers_the_driver(cluster: Cluster, session: Session) -> None:
    """It is a Cassandra, at the port that it says, and works for it."""
    assert answers("127.0.0.1", cluster.port, tls=False)
    assert session.execute("SELECT release_version FROM system.local").one().release_version.startswith("5.")
    assert cluster.nodes[0].cpu_seconds() > 1


def test_a_killed_node_comes_back_with_its_data(cluster: Cluster, session: Session) -> None:
    """What was acknowledged a moment before the kill is there."""
    one = "{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}"
    session.execute(f"CREATE KEYSPACE kept WITH replication = {one}")
    session.execute("CREATE TABLE kept.numbers (number int PRIMARY KEY)")
    for number in range(100):
        session.execute("INSERT INTO kept.numbers (number) VALUES (%s)", [number])
    node = cluster.nodes[0]
    pid = node.pid
    node.kill()
    assert not node.running
    assert not Path(f"/proc/{pid}").exists()
    node.start()
    node.wait_up()
    with driver(cluster) as connected:
        rows = connected.connect().execute("SELECT number FROM kept.numbers")
        assert {row.number for row in rows} == set(range(100))


def test_a_paused_node_keeps_silent_until_it_is_resumed(cluster: Cluster) -> None:
    """It still runs meanwhile; its port takes connections."""
    node = cluster.nodes[0]
    node.pause()
    assert node.running
    assert not answers(node.address, node.port, tls=False)
    node.resume()
    node.wait_up()


def test_it_takes_orders_of_nodetool(cluster: Cluster) -> None:
    """And says why it did not do one."""
    assert re.search(r"^UN +127\.0\.0\.1 ", cluster.nodes[0].nodetool("status"), re.MULTILINE)
    with pytest.raises(NodetoolError, match=r"eyspace nowhere,? does not exist"):
        cluster.nodes[0].nodetool("snapshot", "nowhere")


def test_starting_it_twice_says_so_and_how_to_use_it(cluster: Cluster) -> None:
    """The lines that it prints are a configuration."""
    pid = cluster.nodes[0].pid
    said = call(cluster, "start", "--port", str(cluster.port))
    assert said.startswith("Cassandra already runs.\n")
    told = tomllib.loads(said[said.index("[storage]") :])["storage"]
    assert told.pop("backend") == "cassandra"
    assert CassandraSettings(**told["cassandra"]).port == cluster.port
    assert told["cassandra"]["contact_points"] == ["127.0.0.1"]
    assert cluster.nodes[0].pid == pid


def test_a_node_that_runs_keeps_its_port(cluster: Cluster) -> None:
    """Nobody is told of a port where nothing listens."""
    with pytest.raises(FolderError, match=f"runs on port {cluster.port}; stop it first"):
        Cluster(cluster.folder, port=cluster.port + 1).start()
    assert Cluster(cluster.folder, port=0).port == cluster.port


def test_another_process_stops_it_even_while_it_is_paused(cluster: Cluster) -> None:
    """In good order; and stopping it again is fine."""
    node = cluster.nodes[0]
    node.pause()
    assert call(cluster, "stop").startswith("Stopped.")
    assert "shutdown complete" in node.log.read_text()
    assert call(cluster, "stop") == "It doesn't run.\n"
    cluster.stop()
    node.kill()
    with pytest.raises(NotRunningError, match="doesn't run"):
        node.pause()


def test_a_node_that_ends_while_it_starts_says_why(tmp_path: Path) -> None:
    """The lines of its log that tell of it, without those that don't."""
    need(not missing(), missing())
    cluster = Cluster(tmp_path, port=0, settings={"no_such_key": 1})
    with pytest.raises(StartError, match="ended while it started") as error:
        cluster.start()
    assert "no_such_key" in str(error.value)
    assert len(str(error.value).splitlines()) <= 10
    assert not cluster.running


def test_no_node_is_left_if_one_can_not_start(tmp_path: Path) -> None:
    """The first of the two is ended again when the second fails."""
    need(not missing(), missing())
    cluster = Cluster(tmp_path, nodes=2, port=0)
    (cluster.nodes[1].folder / "cassandra.yaml").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        cluster.start()
    assert cluster.nodes[0].log.exists(), "it was started"
    assert not cluster.nodes[0].running
