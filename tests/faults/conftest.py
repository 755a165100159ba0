"""What fault tests share: servers that end with the test, and the long form (`--long`)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from devcluster import Cluster, missing
from storage.settings import CassandraSettings
from tests.faults.harness import Server, Settings
from tests.support.needing import need

_DENYLIST = {
    "partition_denylist_enabled": True,
    "denylist_writes_enabled": True,
    "denylist_reads_enabled": False,
    "denylist_range_reads_enabled": False,
    "denylist_refresh": "1s",
    "denylist_consistency_level": "ONE",
}
"""With it a node can be told to refuse single rows."""

MakeServer = Callable[..., Server]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long`: 50 kills under load, 20 within a replay, 30 of the gateway, a reader of ten minutes, ..."""
    parser.addoption("--long", action="store_true", help="the long form of the fault tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give the long form the time that it takes."""
    if config.getoption("--long", default=False):
        for item in items:
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="package")
def long_form(request: pytest.FixtureRequest) -> bool:
    """Whether the long form was asked for."""
    return bool(request.config.getoption("--long", default=False))


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """Makes servers, not yet started; all of them are gone after the test."""
    servers: list[Server] = []

    def make(settings: Settings | None = None, *, folder: Path = tmp_path, name: str = "server") -> Server:
        servers.append(Server(folder, settings, name=name))
        return servers[-1]

    yield make
    for server in servers:
        server.clean_up()


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    """One server with the settings that all tests share, not yet started."""
    return make_server()


@pytest.fixture(scope="package")
def sync_s(*, long_form: bool) -> float:
    """How often the node of these tests syncs its commit log; in the long form as rarely as by default."""
    return 10.0 if long_form else 4.0


@pytest.fixture(scope="package")
def one_node(tmp_path_factory: pytest.TempPathFactory, sync_s: float) -> Iterator[Cluster]:
    """A Cassandra of one node that tests may stop, kill and cut; each uses a keyspace of its own."""
    need(not missing(), missing())
    folder = tmp_path_factory.mktemp("cassandra")
    settings = {**_DENYLIST, "commitlog_sync_period": f"{sync_s * 1000:.0f}ms"}
    with Cluster(folder, port=0, heap_mib=1024, settings=settings) as cluster:
        yield cluster


@pytest.fixture(scope="package")
def cluster_of_three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of three, which takes most of a minute to start."""
    need(not missing(), missing())
    with Cluster(tmp_path_factory.mktemp("three"), nodes=3, port=0) as cluster:
        yield cluster


@pytest.fixture
def three_nodes(cluster_of_three: Cluster) -> Cluster:
    """All of them up, whatever a test before has done to them."""
    cluster_of_three.start()
    return cluster_of_three


@pytest.fixture
def tables(one_node: Cluster) -> CassandraSettings:
    """Tables that nobody has used, on a node that is up."""
    one_node.start()
    return tables_on(one_node)


def tables_on(cluster: Cluster, **settings: object) -> CassandraSettings:
    """A keyspace on this cluster that nobody has used."""
    return msgspec.convert(
        {
            "contact_points": cluster.contact_points,
            "port": cluster.port,
            "keyspace": f"fault_{uuid4().hex[:12]}",
            **settings,
        },
        CassandraSettings,
    )
