"""`headrace serve --workers 2`: two processes take data on one port, and neither feels the other."""

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import apsw
import msgspec
import pytest

from headrace import reconcile
from headrace.config import load_config
from parser.block import from_seq
from storage.factory import open_writer
from storage.settings import SqliteSettings, StorageSettings
from tests.faults import processes
from tests.faults.harness import MIB, Server
from tests.faults.oracle import check_all, check_books, reading
from tests.faults.sender import Sender, deliver, record
from tests.faults.waiting import wait_until
from tests.headrace.test_serve import refused

WORKERS = ("--workers", "2")


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two workers that the tests of this file share; node ids 7 and 8."""
    made = Server(tmp_path_factory.mktemp("crew"), {"ingest": {"node_id": 7}})
    made.start(*WORKERS)
    yield made
    made.clean_up()


def opened(server: Server) -> list[float]:
    """How many connections each worker has accepted."""
    return [server.metric(f'headrace_connections_opened_total{{worker="{number}"}}') for number in (0, 1)]


def senders_on_both(server: Server, name: str, per_second: float = 2_000) -> list[Sender]:
    """Senders, as many as it takes until each worker has one of them."""
    before = opened(server)
    senders: list[Sender] = []
    while not all(now > then for now, then in zip(opened(server), before, strict=True)):
        device = f"{name}{len(senders)}"
        senders.append(Sender(device, server.ack_port, window=250, per_second=per_second))
        senders[-1].start()
        senders[-1].wait_for_more(1)
    return senders


def worker_pid(server: Server, number: int) -> int:
    """The process that holds this worker's journal."""
    lock = str(server.journal / f"worker-{number}" / "lock")
    return next(
        pid
        for pid in processes.children(server.pid)
        if any(_open(handle) == lock for handle in _handles(pid))
    )


def _handles(pid: int) -> list[Path]:
    with suppress(OSError):  # it has just ended
        return list(Path(f"/proc/{pid}/fd").iterdir())
    return []


def _open(handle: Path) -> str:
    with suppress(OSError):
        return str(handle.readlink())
    return ""


def nodes_of(server: Server) -> dict[str, int]:
    """Which node each connection that the tables know of came to, by its peer."""
    with reading(server.tables) as tables:
        return dict(tables.execute("SELECT peer, node FROM connections"))


def test_both_workers_store_and_their_metrics_add_up(crew: Server) -> None:
    """Rows come from both node ids, all series say whose they are, and the books add up over both."""
    senders = senders_on_both(crew, "A")
    for sender in senders:
        sender.stop()
    crew.wait_drained()
    with reading(crew.tables) as tables:
        rows = tables.execute("SELECT count(*) FROM readings").get
        nodes = {from_seq(seq)[0] for (seq,) in tables.execute("SELECT seq FROM readings")}
    assert nodes == {7, 8}
    assert crew.total("headrace_records_stored_total") == rows == sum(len(s.acknowledged) for s in senders)
    for number in (0, 1):
        assert crew.metric(f'headrace_records_stored_total{{sink="tables",worker="{number}"}}') > 0
        assert crew.metric(f'headrace_worker_up{{worker="{number}"}}') == 1
    assert len(crew.ready().sinks) == 2
    check_all(crew.tables, senders)


def test_the_live_view_shows_what_comes_to_either_worker(crew: Server) -> None:
    """A record stream of the one HTTP server carries readings of both node ids."""
    with urlopen(f"{crew.url}/api/v1/stream", timeout=30) as stream:  # noqa: S310  # our own address
        senders = senders_on_both(crew, "B", per_second=1_000)
        seen: set[int] = set()
        while seen < {7, 8}:
            line = stream.readline()
            assert line, "the stream ended"
            if line.startswith(b"data: "):
                seen |= {from_seq(int(row["seq"]))[0] for row in msgspec.json.decode(line[6:])["records"]}
    for sender in senders:
        sender.stop()


def test_two_that_send_for_one_machine_are_flagged_by_the_server(crew: Server) -> None:
    """Of three connections two share a worker; workers only tell what they see, the parent judges."""
    machines = [socket.create_connection(("127.0.0.1", crew.ack_port), 20) for _ in range(3)]
    claimed = "headrace_devices_claimed_twice_total"
    assert crew.metric(claimed) == 0
    try:
        for machine in machines * 2:
            machine.sendall(b"T1,35.2,8000,2.5,3.7,380#")
            assert machine.recv(100).startswith(b"ACK,")
        wait_until(lambda: crew.metric(claimed) == 1, "the claim", 20)
        with urlopen(f"{crew.url}/api/v1/devices", timeout=10) as answer:  # noqa: S310  # our own address
            devices = msgspec.json.decode(answer.read())["devices"]
        assert [row["device_id"] for row in devices if row["claimed_twice"]] == ["T1"]
    finally:
        for machine in machines:
            machine.close()


def test_a_worker_that_hangs_makes_the_server_unready(crew: Server) -> None:
    """The kernel still deals connections out to it; the reason names it, and it passes."""
    hanging = worker_pid(crew, 1)
    processes.kill(hanging, signal.SIGSTOP)
    try:
        found = crew.ready()
        assert (found.ready, found.reasons) == (False, ["worker 1: does not answer"])
    finally:
        processes.kill(hanging, signal.SIGCONT)
    wait_until(lambda: crew.ready().ready, "it answers again")


IMPATIENT = """
import sys
from headrace.cli import main
from headrace.workers import crew, worker
crew._ANSWER_S, crew._ASK_EVERY_S, worker.PATIENCE = 0.5, 0.2, 5
sys.argv = sys.argv[1:]
main()
"""
"""A server whose patience with its workers a test can wait for."""


def test_a_worker_that_hangs_for_long_is_replaced_and_loses_nothing(server: Server) -> None:
    """Whether or not somebody looks; meanwhile it isn't shown as up, and the other one goes on."""
    server.before = (sys.executable, "-c", IMPATIENT)
    server.start(*WORKERS)
    senders = senders_on_both(server, "H")
    hanging = worker_pid(server, 1)
    processes.kill(hanging, signal.SIGSTOP)
    wait_until(lambda: server.metric('headrace_worker_up{worker="1"}') == 0, "it isn't shown as up")
    wait_until(lambda: server.said_event("worker_hangs"), "it is ended")
    wait_until(lambda: server.ready().ready and not server.ready().reasons, "both serve again")
    assert server.metric('headrace_worker_restarts_total{worker="1"}') == 1
    assert server.metric('headrace_worker_up{worker="1"}') == 1
    assert worker_pid(server, 1) != hanging
    for sender in senders:
        sender.wait_for_more(500)
        sender.stop()
    server.wait_drained()
    check_all(server.tables, senders)
    assert server.stop() == 0


def test_a_killed_worker_costs_only_its_own_connections(crew: Server) -> None:
    """It comes back with its journal and node id, loses nothing acknowledged, and its counters go on."""
    senders = senders_on_both(crew, "C")
    with ExitStack() as stack:
        quiet = _connections_on_both(crew, stack)
        counted = crew.total("headrace_records_stored_total")
        processes.kill(worker_pid(crew, 0))
        wait_until(lambda: crew.total("headrace_worker_restarts_total") == 1, "the parent notices")
        assert crew.total("headrace_records_stored_total") >= counted
        for sock, node in quiet:
            if node == 8:
                sock.sendall(record("quiet", 2))
                assert sock.recv(100) == b"ACK,2#"
    wait_until(lambda: crew.ready().ready and not crew.ready().reasons, "both serve again")
    for sender in senders:
        sender.wait_for_more(500)
        sender.stop()
    crew.wait_drained()
    assert crew.total("headrace_records_stored_total") >= counted
    check_all(crew.tables, senders)
    assert crew.said_event("worker_ended")


def _knows(server: Server, peer: str) -> bool:
    return peer in nodes_of(server)


def _connections_on_both(server: Server, stack: ExitStack) -> list[tuple[socket.socket, int]]:
    """Connections that have had one acknowledgement, with the node that each came to."""
    found: list[tuple[socket.socket, int]] = []
    while {node for _, node in found} < {7, 8}:
        sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.ack_port), timeout=20))
        sock.sendall(record("quiet", 1))
        assert sock.recv(100) == b"ACK,1#"
        peer = "{}:{}".format(*sock.getsockname())
        wait_until(partial(_knows, server, peer), "the connection has its row")
        found.append((sock, nodes_of(server)[peer]))
    return found


def test_workers_end_with_a_killed_parent_and_lose_nothing(crew: Server) -> None:
    """All their processes are gone in bounded time; the next start has everything that was acknowledged."""
    senders = senders_on_both(crew, "E", per_second=5_000)
    for sender in senders:
        sender.wait_for_more(1_000)
    left = crew.kill()
    for sender in senders:
        sender.abandon()
    processes.wait_gone(left, 60)
    for sender in senders:
        sender.join(30)
    crew.start(*WORKERS)
    crew.wait_drained()
    check_all(crew.tables, senders)


def test_what_waits_with_any_worker_is_counted(crew: Server) -> None:
    """`reconcile` looks into every journal under the path, also while the tables can't be written."""
    crew.wait_drained()
    lock = apsw.Connection(str(crew.tables))
    lock.execute("BEGIN IMMEDIATE")
    for number in range(4):
        deliver(crew.ack_port, record(f"F{number}", 1) * 5, records=5)
    assert reconcile.run(load_config(crew.config)).waiting == 20
    lock.close()
    crew.wait_drained()
    assert reconcile.run(load_config(crew.config)).waiting == 0


def test_sigterm_ends_all_in_order(crew: Server) -> None:
    """Exit status 0, no process left, nothing left to deliver, and `reconcile` counts all nodes."""
    senders = senders_on_both(crew, "D", per_second=5_000)
    for sender in senders:
        sender.wait_for_more(1_000)
    started = processes.children(crew.pid)
    assert crew.stop(60) == 0
    for sender in senders:
        sender.abandon()
        sender.join(30)
    assert not processes.alive(started)
    found = reconcile.run(load_config(crew.config))
    assert (found.findings, found.waiting) == ([], 0)
    check_books(crew.tables)


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("ingest", "node_id", 1023, ("[ingest] node_id", "1023 to 1024")),
        ("journal", "max_bytes", 31 * MIB, ("[journal] max_bytes", str(32 * MIB))),
    ],
)
def test_too_many_workers_are_refused(
    server: Server, section: str, key: str, value: int, words: tuple[str, ...]
) -> None:
    """One line that names the key; nothing is started."""
    server.configure({section: {key: value}})
    refused(server, *words, options=WORKERS)


def test_a_port_in_use_is_named(server: Server) -> None:
    """Also where whoever listens there would share it."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server.configure({"ingest": {"port": port}})
        refused(server, str(port), "in use", options=WORKERS)


def test_a_node_of_another_journal_is_refused(server: Server) -> None:
    """Whichever worker it would be; what it says is what the server says, and no process is left."""
    storage = StorageSettings(sqlite=SqliteSettings(path=str(server.tables)))
    with closing(open_writer(storage)) as writer:
        writer.claim(1, "another", adopt=False)
    refused(server, "node 1 belongs to journal another", options=WORKERS)


def test_changed_limits_count_in_every_worker_also_in_one_that_is_started_again(server: Server) -> None:
    """The parent reads the file once and says once what came of it."""
    server.start(*WORKERS)
    server.configure({"ingest": {"allow": ["10.0.0.0/8"]}})
    server.reload()
    wait_until(lambda: server.said_event("configuration_changed"), "the change is told")
    wait_until(lambda: all(_refuses(server) for _ in range(8)), "both workers refuse")
    processes.kill(worker_pid(server, 0))
    wait_until(lambda: server.total("headrace_worker_restarts_total") == 1, "the parent notices")
    wait_until(lambda: not server.ready().reasons, "both take data")
    assert all(_refuses(server) for _ in range(16))
    server.configure({})
    server.reload()
    wait_until(lambda: not any(_refuses(server) for _ in range(8)), "everybody may connect again")
    assert [line["event"] for line in server.said()].count("configuration_changed") == 2
    assert server.stop() == 0


def test_a_limit_that_is_none_is_taken_over_by_every_worker(server: Server) -> None:
    """An infinite number is a good one in the file, so it has to be on the way to the workers."""
    server.start(*WORKERS)
    server.config.write_text(server.config.read_text() + "[record.limits]\nspindle_speed_rpm = [-inf, 1]\n")
    server.reload()
    wait_until(lambda: server.said_event("configuration_changed"), "the change is told")
    senders = senders_on_both(server, "I")
    for sender in senders:
        sender.stop()
    server.wait_drained()
    rejected = 'headrace_records_rejected_total{reason="implausible",sink="tables",worker="%d"}'
    assert all(server.metric(rejected % number) > 0 for number in (0, 1))
    assert server.total("headrace_worker_restarts_total") == 0
    assert server.ready().ready
    assert server.stop() == 0


def _refuses(server: Server) -> bool:
    """Whether a connection is closed before it has sent anything."""
    with socket.create_connection(("127.0.0.1", server.ack_port), timeout=20) as machine:
        machine.sendall(record("asks", 1))
        with suppress(ConnectionResetError):
            return machine.recv(16) == b""
        return True
