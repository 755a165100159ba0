"""What fault tests share: servers that end with the test, their wire (`--tls`), size (`--long`) and table."""

import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from benchmarks.report import describe_machine
from devcluster import Cluster, missing
from storage.settings import CassandraSettings
from tests.faults import wire as wires
from tests.faults.cases import TABLE, fault_of, verdict_of
from tests.faults.figures import INTERRUPTED, Figures, Table, begin
from tests.faults.harness import Server, Settings
from tests.support.certificates import Certificates
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

SYNC_S = 10.0
"""How often a node syncs its commit log by default."""

_HERE = Path(__file__).parent

_TIMEOUT_S = 600.0
"""Of the short forms: what a server has to do for some of them takes a minute on a fast machine."""

MakeServer = Callable[..., Server]

_VERDICT = pytest.StashKey[str]()
_SECONDS = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long`: 50 kills under load, 20 within a replay, 10 000 connections, outages of ten minutes, ..."""
    parser.addoption("--long", action="store_true", help="the long form of the fault tests")
    parser.addoption("--tls", action="store_true", help="with TLS and certificates of both sides")
    parser.addoption("--soak-seconds", type=float, default=7200.0, help="how long the long soak lasts")
    parser.addoption("--table", type=Path, help="write what the tests counted into this folder")
    parser.addoption("--made-by", default="pytest", help="the command that the table names")


def pytest_configure(config: pytest.Config) -> None:
    """Begin the table."""
    if folder := config.getoption("--table", default=None):
        when = time.strftime("%Y-%m-%d")
        head = f"{when}, {describe_machine()}, `{config.getoption('--made-by')}`"
        config.stash[TABLE] = Table(folder, head, goes_on=bool(config.getoption("keyword")))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The wire; in the long form outages of a minute and of ten, one and three nodes, and these restarted."""
    long = metafunc.config.getoption("--long", default=False)
    if kinds := _wires(metafunc, long=long):
        metafunc.parametrize("wire", kinds, indirect=True)
    if "outage_s" in metafunc.fixturenames:
        seconds = {"60 s": 60.0, "600 s": 600.0} if long else {"short": None}
        metafunc.parametrize("outage_s", list(seconds.values()), ids=list(seconds))
    if long and {"cluster", "network"} & set(metafunc.fixturenames):
        metafunc.parametrize("nodes", [1, 3], ids=["one node", "three nodes"])
    if "restarted" in metafunc.fixturenames:
        since = {"nodes that run on": False} | ({"nodes started since": True} if long else {})
        metafunc.parametrize("restarted", list(since.values()), ids=list(since))


def _wires(metafunc: pytest.Metafunc, *, long: bool) -> list[str]:
    """What a test with the marker `tls` is tried on: both in the suite, else what the option says."""
    marker = metafunc.definition.get_closest_marker("tls")
    if marker is not None and marker.kwargs.get("only"):
        return ["tls"]
    asked = metafunc.config.getoption("--tls", default=False)
    return [] if marker is None or long or asked else ["plain", "tls"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each the time that it takes on a slow machine, and the long form that of its own."""
    for item in items:
        if config.getoption("--long", default=False):
            item.add_marker(pytest.mark.timeout(1800 + 60 * _minutes(item)))
        elif _HERE in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_TIMEOUT_S))


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> str:
    """Say how long it will take."""
    if not config.getoption("--long", default=False):
        return ""
    return f"long form of {len(items)} tests, about {sum(map(_minutes, items)):.0f} minutes in all"


def _minutes(item: pytest.Item) -> float:
    """What the long form of a test takes."""
    if item.get_closest_marker("soak"):
        return float(item.config.getoption("--soak-seconds")) / 60 + 2
    long = item.get_closest_marker("long")
    short = 0.3 if Path(__file__).parent in item.path.parents else 0.003
    return float(long.kwargs["minutes"]) if long else short


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what became of a test, for its row in the table."""
    report = yield
    if report.when == "call" or not report.passed:
        item.stash[_VERDICT] = verdict_of(report)
        item.stash[_SECONDS] = call.duration
    return report


@pytest.fixture(autouse=True)
def figures(request: pytest.FixtureRequest, *, long_form: bool) -> Iterator[Figures]:
    """What the test counts; its row in the table, where one is made, and what it finds in the end."""
    found = begin(judges_speed=long_form)
    yield found
    table = request.config.stash.get(TABLE, None)
    stash = request.node.stash
    verdict = stash.get(_VERDICT, INTERRUPTED)
    if table is not None:
        table.add(found.row(fault_of(request.node.name), verdict, stash.get(_SECONDS, 0.0)))
    if verdict == "passed" and found.findings:
        pytest.fail("; ".join(found.findings))


@pytest.fixture(scope="session")
def encrypted(certificates: Certificates) -> wires.Wire:
    """TLS; its certificates are made once."""
    return wires.encrypted(certificates)


@pytest.fixture(autouse=True)
def wire(request: pytest.FixtureRequest) -> Iterator[wires.Wire]:
    """How machines are connected in this test."""
    asked = "tls" if request.config.getoption("--tls", default=False) else "plain"
    is_encrypted = getattr(request, "param", asked) == "tls"
    with wires.used(request.getfixturevalue("encrypted") if is_encrypted else wires.PLAIN) as found:
        yield found


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
    return SYNC_S if long_form else 4.0


@pytest.fixture(scope="package")
def one_node(
    tmp_path_factory: pytest.TempPathFactory, sync_s: float, *, long_form: bool
) -> Iterator[Cluster]:
    """A Cassandra of one node that tests may stop, kill and cut; each uses a keyspace of its own."""
    need(not missing(), missing())
    folder = tmp_path_factory.mktemp("cassandra")
    settings = {**_DENYLIST, "commitlog_sync_period": f"{sync_s * 1000:.0f}ms"}
    with Cluster(folder, port=0, heap_mib=1024, settings=settings, short_lived=not long_form) as cluster:
        yield cluster


@pytest.fixture(scope="package")
def cluster_of_three(tmp_path_factory: pytest.TempPathFactory, *, long_form: bool) -> Iterator[Cluster]:
    """A cluster of three, which takes most of a minute to start."""
    need(not missing(), missing())
    settings = {**_DENYLIST, "hinted_handoff_enabled": False}  # a copy that was missed stays missing
    folder = tmp_path_factory.mktemp("three")
    with Cluster(folder, nodes=3, port=0, settings=settings, short_lived=not long_form) as cluster:
        yield cluster


@pytest.fixture
def three_nodes(cluster_of_three: Cluster) -> Cluster:
    """All of them up, whatever a test before has done to them."""
    cluster_of_three.start()
    return cluster_of_three


@pytest.fixture
def nodes() -> int:
    """How many nodes the test's Cassandra has; one or, in the long form, also three."""
    return 1


@pytest.fixture
def cluster(request: pytest.FixtureRequest, nodes: int) -> Cluster:
    """All of its nodes are up, and tests may stop, pause and kill them."""
    found: Cluster = request.getfixturevalue("one_node" if nodes == 1 else "cluster_of_three")
    found.start()
    return found


@pytest.fixture
def tables(cluster: Cluster) -> CassandraSettings:
    """Tables that nobody has used; on three nodes each row has three copies, and a majority decides."""
    return tables_on(cluster)


def tables_on(cluster: Cluster, **settings: object) -> CassandraSettings:
    """A keyspace on this cluster that nobody has used, with copies on up to three of its nodes."""
    return msgspec.convert(
        {
            "contact_points": cluster.contact_points,
            "port": cluster.port,
            "keyspace": f"fault_{uuid4().hex[:12]}",
            "replication_factor": min(len(cluster.nodes), 3),
            **settings,
        },
        CassandraSettings,
    )
