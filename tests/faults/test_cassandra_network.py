"""A bad network between server and Cassandra: whatever it loses, the rows come out exact.

There is a proxy before each node, and the same weather at all of them.
"""

import random
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from itertools import cycle
from typing import Final

import msgspec
import pytest

from devcluster import Cluster, missing
from storage.settings import CassandraSettings
from tests.faults import processes
from tests.faults.cassandra_oracle import check_all, on_cassandra, stored_numbers
from tests.faults.conftest import MakeServer, tables_on
from tests.faults.figures import Figures, listed
from tests.faults.harness import MIB, Server
from tests.faults.oracle import check_numbers
from tests.faults.proxy import Direction, Fate, Proxy, arrives
from tests.faults.sender import Sender
from tests.faults.waiting import wait_until
from tests.support.needing import need

pytestmark = [pytest.mark.fault, pytest.mark.cassandra, pytest.mark.timeout(300)]

_STORED: Final = 'headrace_records_stored_total{sink="tables"}'
_REPEATED: Final = 'headrace_store_requests_total{outcome="repeated",sink="tables"}'
_COMMIT: Final = "headrace_journal_commit_seconds"
_SLOW_S: Final = 0.2
_QUEUE_BYTES: Final = 24 * MIB
"""Received and not yet durable, at most."""

_MOVED: Final = b"[applied]"
"""Stands in the answer to a compare-and-set, and in no other."""

_RESULT: Final = 0x08
_WRITTEN: Final = b"\0\0\0\1"
"""How the answer to a write begins, behind its header."""

_TOLD_ADDRESS: Final = "127.0.1.2"
"""Where the first of three proxies listens; nodes tell clients of it, which would find ways around them."""

_chance = random.Random(1)  # noqa: S311  # no secret; repeatable


class Network:
    """What lies between a server and all nodes."""

    def __init__(self, proxies: list[Proxy], tables: CassandraSettings) -> None:
        self.tables = tables
        """Where they are, seen from this side of it."""

        self.requests = Direction()
        self.answers = Direction()
        self._proxies = proxies
        for proxy in proxies:
            proxy.requests, proxy.answers = self.requests, self.answers

    def cut(self, *, refuse_s: float) -> None:
        """Cut all connections, and let no new one through for so long."""
        with ThreadPoolExecutor(len(self._proxies)) as beside:
            list(beside.map(lambda proxy: proxy.cut(refuse_s=refuse_s), self._proxies))

    def let_cuts_reset(self, resets: bool) -> None:  # noqa: FBT001  # that is all it says
        """Whether connections that are cut are reset; else it seems as if the other side had closed them."""
        for proxy in self._proxies:
            proxy.resets = resets


@pytest.fixture(scope="module")
def three_behind(tmp_path_factory: pytest.TempPathFactory, *, long_form: bool) -> Iterator[Cluster]:
    """Three nodes that tell clients to come to the proxies."""
    need(not missing(), missing())
    folder = tmp_path_factory.mktemp("behind")
    with Cluster(folder, nodes=3, port=0, short_lived=not long_form, told_address=_TOLD_ADDRESS) as cluster:
        yield cluster


@pytest.fixture
def network(request: pytest.FixtureRequest, nodes: int) -> Iterator[Network]:
    """Good weather, with tables behind it that nobody has used."""
    cluster: Cluster = request.getfixturevalue("one_node" if nodes == 1 else "three_behind")
    cluster.start()
    tables = tables_on(cluster)
    with ExitStack() as stack:
        if nodes == 1:
            proxies = [stack.enter_context(Proxy(cluster.contact_points[0], cluster.port))]
            yield Network(proxies, msgspec.structs.replace(tables, port=proxies[0].port))
            return
        told = [str(ip_address(_TOLD_ADDRESS) + number) for number in range(nodes)]
        proxies = [
            stack.enter_context(Proxy(node.address, cluster.port, listen=(address, cluster.port)))
            for node, address in zip(cluster.nodes, told, strict=True)
        ]
        yield Network(proxies, msgspec.structs.replace(tables, contact_points=told))


@contextmanager
def meeting(
    direction: Direction, fate: Callable[[bytes], Fate], unwanted: Fate, count: int
) -> Iterator[None]:
    """Let frames of this direction meet a fate, until so many met the unwanted one."""
    before = direction.met[unwanted]
    direction.fate = fate
    try:
        yield
        wait_until(lambda: direction.met[unwanted] >= before + count, f"{count} frames met {unwanted}", 90)
    finally:
        direction.fate = arrives


def some(unwanted: Fate) -> Callable[[bytes], Fate]:
    """Every tenth frame, by chance."""
    return lambda _frame: unwanted if _chance.random() < 0.1 else Fate.ARRIVES


def every_other(wanted: Callable[[bytes], bool]) -> Callable[[bytes], Fate]:
    """Every other of these frames is lost."""
    turns = cycle((Fate.IS_LOST, Fate.ARRIVES))
    return lambda frame: next(turns) if wanted(frame) else Fate.ARRIVES


def _is_of_write(answer: bytes) -> bool:
    return answer[4] == _RESULT and answer[9:13] == _WRITTEN


def answers_are_lost(network: Network) -> None:
    """What was asked is done, and nobody hears of it."""
    with meeting(network.answers, some(Fate.IS_LOST), Fate.IS_LOST, 1):
        pass


def rows_are_written_unheard(network: Network) -> None:
    """The same, to rows and books only: some of what was written together is confirmed."""
    with meeting(network.answers, every_other(_is_of_write), Fate.IS_LOST, 4):
        pass


def the_cursor_moves_unheard(network: Network) -> None:
    """The answer to the step that decides whether a block was written is lost."""
    with meeting(
        network.answers, lambda frame: Fate.IS_LOST if _MOVED in frame else Fate.ARRIVES, Fate.IS_LOST, 1
    ):
        pass


def the_cursor_is_cut_off(network: Network) -> None:
    """The same, and the connection is gone with it."""
    with meeting(
        network.answers, lambda frame: Fate.IS_CUT if _MOVED in frame else Fate.ARRIVES, Fate.IS_CUT, 2
    ):
        pass


def requests_are_lost(network: Network) -> None:
    """Nothing is done, and nobody hears of that either."""
    with meeting(network.requests, some(Fate.IS_LOST), Fate.IS_LOST, 1):
        pass


def answers_are_cut(network: Network) -> None:
    """Connections end in the middle of an answer."""
    with meeting(network.answers, some(Fate.IS_CUT), Fate.IS_CUT, 4):
        pass


def requests_are_cut(network: Network) -> None:
    """Connections end in the middle of a request."""
    with meeting(network.requests, some(Fate.IS_CUT), Fate.IS_CUT, 4):
        pass


def nothing_is_answered_and_all_is_cut(network: Network) -> None:
    """As when a firewall is restarted."""
    with meeting(network.answers, lambda _frame: Fate.IS_LOST, Fate.IS_LOST, 3):
        pass
    network.cut(refuse_s=3.0)


def all_is_slow(network: Network) -> None:
    """Every answer takes 200 ms more."""
    arrived = network.answers.met[Fate.ARRIVES]
    network.answers.delay_s = 0.2
    wait_until(lambda: network.answers.met[Fate.ARRIVES] > arrived + 50, "slow answers come", 90)
    network.answers.delay_s = 0.0


TROUBLES: Final[tuple[Callable[[Network], None], ...]] = (
    rows_are_written_unheard,
    answers_are_cut,
    the_cursor_is_cut_off,
    requests_are_cut,
    the_cursor_moves_unheard,
    nothing_is_answered_and_all_is_cut,
)
MORE: Final = (*TROUBLES, all_is_slow, requests_are_lost, answers_are_lost)


def wait_for_rows(server: Server, trouble: str) -> None:
    """Wait until more rows are written than now."""
    stored = server.metric(_STORED)
    wait_until(lambda: server.metric(_STORED) > stored, f"rows are written after {trouble}", 90)


@pytest.mark.long(minutes=8)
def test_whatever_the_network_loses_the_rows_are_exact(
    make_server: MakeServer, network: Network, figures: Figures, *, long_form: bool
) -> None:
    """Each trouble comes under load, in the long form six times and three more; every record is one row."""
    server = make_server(on_cassandra(network.tables))
    server.start(seconds=60)
    sender = Sender("M", server.ack_port, per_second=1_000)
    sender.start()
    for number, trouble in enumerate(MORE * 6 if long_form else TROUBLES):
        network.let_cuts_reset(number // len(MORE) % 2 == 0)
        trouble(network)
        wait_for_rows(server, trouble.__name__)
        assert server.ready().ready, "machines notice nothing"
    sender.stop()
    server.wait_drained(120)
    figures.notes.append(f"of answers {_met(network.answers)}; of requests {_met(network.requests)}")
    figures.notes.append(f"{server.metric(_REPEATED):.0f} sent again")
    assert server.metric(_REPEATED) > 0
    check_numbers("M", stored_numbers(network.tables, "M"), sender.sent)
    check_numbers("M", sender.acknowledged, sender.sent)
    check_all(server, network.tables, [sender])


def _met(direction: Direction) -> str:
    """How many frames met which fate."""
    return listed({fate.name.lower().replace("_", " "): count for fate, count in direction.met.items()})


@pytest.mark.long(minutes=4)
def test_a_slow_database_leaves_memory_flat(
    make_server: MakeServer, network: Network, *, long_form: bool
) -> None:
    """With 200 ms to every answer, for three minutes in the long form, nothing piles up in any process."""
    server = make_server(on_cassandra(network.tables))
    server.start(seconds=60)
    network.answers.delay_s = _SLOW_S
    sender = _fed_without_growth(server, long_form=long_form)
    check_all(server, network.tables, [sender])


@pytest.mark.long(minutes=4)
def test_a_journal_that_is_slow_to_sync_leaves_memory_flat(
    make_server: MakeServer, tables: CassandraSettings, *, long_form: bool
) -> None:
    """The same where it is the disk of the journal that takes so long each time."""
    server = make_server(on_cassandra(tables))
    server.before = (sys.executable, "-m", "tests.faults.slow_disk", str(_SLOW_S))
    server.start(seconds=60)
    sender = _fed_without_growth(server, long_form=long_form)
    assert server.metric(f"{_COMMIT}_sum") / server.metric(f"{_COMMIT}_count") > _SLOW_S, "it was not slow"
    check_all(server, tables, [sender])


def _fed_without_growth(server: Server, *, long_form: bool) -> Sender:
    """A machine has sent for three minutes in the long form, and no process has grown by it."""
    sender = Sender("M", server.ack_port, per_second=5_000)
    sender.start()
    sender.wait_for_more(25_000)
    used = [processes.resident_bytes(pid) for pid in (server.pid, server.sink_pid())]
    for _ in range(36 if long_form else 1):
        sender.wait_for_more(25_000)
        now = [processes.resident_bytes(pid) for pid in (server.pid, server.sink_pid())]
        assert all(after < before + 64 * MIB for after, before in zip(now, used, strict=True)), (used, now)
        assert server.metric("headrace_journal_queued_bytes") < _QUEUE_BYTES
    sender.stop()
    server.wait_drained(120)
    return sender
