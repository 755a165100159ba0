"""Processes that end: the server by SIGTERM under full load, and the sink by SIGKILL."""

import signal
import socket
import time
from contextlib import ExitStack, suppress

import pytest

from tests.faults import processes, wire
from tests.faults.conftest import MakeServer
from tests.faults.figures import Figures, current
from tests.faults.harness import Server
from tests.faults.oracle import check_all, check_books, check_numbers, stored_numbers
from tests.faults.sender import Sender, deliver, record
from tests.faults.waiting import wait_until

pytestmark = pytest.mark.fault

_RESTARTS = 'headrace_sink_restarts_total{sink="tables"}'


@pytest.mark.tls
def test_sigterm_under_full_load_loses_nothing(server: Server) -> None:
    """The server ends with status 0 in bounded time, and leaves no process behind."""
    server.start()
    senders = [Sender(f"M{number}", server.ack_port, window=10_000) for number in range(4)]
    for sender in senders:
        sender.start()
        sender.wait_for_more(5_000)
    started = processes.children(server.pid)
    begun = time.monotonic()
    status = server.stop(30)
    took = time.monotonic() - begun
    for sender in senders:
        sender.abandon()
        sender.join(30)
    assert status == 0, server.log.read_text()[-2000:]
    assert took < 25, f"{took:.1f} s"
    assert not processes.alive(started)
    server.start()
    server.wait_drained()
    check_all(server.tables, senders)


def test_a_server_that_is_stopped_while_it_starts_ends_in_order(server: Server) -> None:
    """Machines are let in before its pages are up: what they sent by then is taken, as at any end."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    server.configure({"ingest": {"port": port, "tick_ms": 1_000}})
    machines: list[socket.socket] = []

    def let_in() -> bool:
        with suppress(OSError):
            machines.append(socket.create_connection(("127.0.0.1", port), 30))
        return bool(machines)

    server.launch()
    wait_until(let_in, "somebody is let in")
    with machines[0] as machine:
        machine.sendall(b"".join(record("M", number) for number in range(100)))
        current().deliver(100, 0)
        assert server.stop() == 0, server.log.read_text()[-2000:]
    server.start()
    server.wait_drained()
    check_numbers("M", stored_numbers(server.tables, "M"), range(100))
    check_books(server.tables)


def test_a_stopped_server_has_acknowledged_all_that_it_kept(server: Server) -> None:
    """The last acknowledgement of a shutdown counts every row of the connection."""
    server.start()
    sender = Sender("M", server.ack_port)
    sender.start()
    sender.wait_for_more(2_000)
    assert server.stop() == 0
    sender.abandon()
    sender.join(30)
    check_all(server.tables, [sender])
    rows = stored_numbers(server.tables, "M")
    check_numbers("M", rows.keys(), sender.acknowledged)


@pytest.mark.tls
def test_a_server_that_stood_still_cuts_nobody_who_sent_in_time(
    make_server: MakeServer, figures: Figures
) -> None:
    """Stopped for longer than any deadline, as by a snapshot of its machine: what came is read first."""
    deadlines = ("first_record_timeout_s", "record_timeout_s", "idle_timeout_s")
    server = make_server({"ingest": dict.fromkeys(deadlines, 3.0)})
    server.start()
    with ExitStack() as machines:
        idle, between, new = (
            machines.enter_context(wire.current().connect(server.ack_port)) for _ in range(3)
        )
        for number, machine in enumerate((idle, between)):
            machine.sendall(record("M", number))
            assert machine.recv(64) == b"ACK,1#"
        third, fourth, fifth = (record("M", number) for number in (2, 3, 4))
        between.sendall(third[:9])
        wait_until(lambda: server.metric("headrace_connections_open") == 3, "all are in")
        processes.kill(server.pid, signal.SIGSTOP)
        for machine, data in ((between, third[9:]), (idle, fourth), (new, fifth)):
            machine.sendall(data)
        time.sleep(4.5)
        processes.kill(server.pid, signal.SIGCONT)
        assert [machine.recv(64) for machine in (between, idle, new)] == [b"ACK,2#", b"ACK,2#", b"ACK,1#"]
    figures.deliver(5, 5)
    server.wait_drained()
    assert stored_numbers(server.tables, "M") == dict.fromkeys(range(5), 1)
    wait_until(lambda: server.total("headrace_connections_closed_total") == 3, "all have ended")
    assert server.metric('headrace_connections_closed_total{why="closed"}') == 3


def test_a_killed_sink_comes_back_and_writes_nothing_twice(server: Server) -> None:
    """Each time under load, at the next moment that it commits or reads."""
    server.start()
    sender = Sender("M", server.ack_port)
    sender.start()
    killed: set[int] = set()
    for _ in range(4):
        sender.wait_for_more(5_000)
        wait_until(lambda: server.ready().sinks[0].state == "running", "the sink works again")
        killed.add(server.sink_pid())
        processes.kill(server.sink_pid())
        wait_until(lambda: server.metric(_RESTARTS) == len(killed), "the server notices")
    sender.stop()
    server.wait_drained()
    assert server.metric(_RESTARTS) == len(killed) == 4
    check_all(server.tables, [sender])


def test_a_sink_that_survives_its_killed_server_writes_nothing_twice(server: Server) -> None:
    """An orphan that slept through it all wakes up beside the new sink, and gives way."""
    server.start()
    server.wait_drained()
    orphan = server.sink_pid()
    deliver(server.ack_port, b"".join(record("M", number) for number in range(20_000)), records=20_000)
    processes.kill(orphan, signal.SIGSTOP)
    deliver(server.ack_port, b"".join(record("N", number) for number in range(20_000)), records=20_000)
    server.kill()
    try:
        server.start()
        processes.kill(orphan, signal.SIGCONT)
        processes.wait_gone([orphan])
    finally:
        processes.kill(orphan)
    server.wait_drained()
    for device in ("M", "N"):
        check_numbers(device, stored_numbers(server.tables, device), range(20_000))
    check_books(server.tables)
