"""Strangers at the socket: they get a place, a deadline and a share, and the machines notice nothing.

A machine sends all the time in each of these tests; what it was acknowledged is stored, once.
"""

import resource
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection

import pytest

from tests.faults import processes, wire
from tests.faults.cable import cable
from tests.faults.conftest import MakeServer
from tests.faults.figures import Figures
from tests.faults.harness import MIB, Server
from tests.faults.oracle import check_all, check_books, check_fresh, reading, stored_numbers
from tests.faults.sender import Sender, record
from tests.faults.strangers import Dribble, crowd, wait_closed
from tests.faults.visitors import HALF_A_GREETING
from tests.faults.waiting import wait_until
from web.settings import HttpLimits

pytestmark = pytest.mark.fault

_IDLE_BYTES = 8 * 1024
_IDLE_TLS_BYTES = 40 * 1024
"""What an idle connection may cost the server."""

_PASSING = 32
"""Descriptors of who is just being refused, and those that come and go anyway."""

_REFUSED_PAGES = 'headrace_http_connections_refused_total{why="too_many"}'
_PEERS = 3
"""As many machines vanish as may come from one address."""

_NOISE_BYTES = 16 * MIB
"""By how much the memory of a server with some load goes up and down anyway."""


@contextmanager
def _steady(server: Server) -> Iterator[Sender]:
    """A machine that sends 2 000 records a second meanwhile; in the end everything has to be right."""
    sender = Sender("steady", server.ack_port, per_second=2_000)
    sender.start()
    sender.wait_for_more(2_000)
    yield sender
    sender.wait_for_more(1_000)
    check_fresh(server.ack_port, "fresh")
    sender.stop()
    server.wait_drained()
    check_all(server.tables, [sender])
    assert "Traceback" not in server.log.read_text()


def _whys(server: Server) -> Counter[str]:
    """How the connections ended."""
    with reading(server.tables) as tables:
        return Counter(str(why) for (why,) in tables.execute("SELECT why FROM connections"))


@pytest.mark.long(minutes=1)
def test_a_crowd_that_says_nothing_costs_little(
    make_server: MakeServer, figures: Figures, *, long_form: bool
) -> None:
    """1 000 connections, in the long form 10 000: small ones; one more is refused, until they are gone."""
    count = 10_000 if long_form else 1_000
    server = make_server({"ingest": {"max_connections": count + 2}})
    server.start()
    with _steady(server) as sender:
        before = processes.resident_bytes(server.pid)
        with crowd(server.port, count):
            wait_until(lambda: server.metric("headrace_connections_open") == count + 1, "all are in", 60)
            sender.wait_for_more(1_000)
            grown = processes.resident_bytes(server.pid) - before
            each = _IDLE_BYTES if wire.current() is wire.PLAIN else _IDLE_TLS_BYTES
            figures.notes.append(f"{grown / count / 1024:.1f} KiB each")
            assert grown < count * each + _NOISE_BYTES
            with crowd(server.port, 50) as more:
                wait_closed(more[1:], "those for whom there is no place")
            assert server.metric('headrace_connections_refused_total{why="too_many"}') == 49
        wait_until(lambda: server.metric("headrace_connections_open") == 1, "all are gone")
    refusals = [line for line in server.said() if line["event"] == "connection_refused"]
    assert 1 <= len(refusals) <= 7, "a flood of refusals is few lines"


def test_a_server_out_of_descriptors_recovers_by_itself(server: Server, *, long_form: bool) -> None:
    """Its limit is lowered under it; in the long form five times, each after it has said that it goes on."""
    server.start()
    hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)[1]
    with _steady(server) as sender:
        for turn in range(5 if long_form else 1):
            if turn:
                _wait_said(server, "listener_goes_on", turn)
            left = processes.descriptors(server.pid) + 10
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (left, hard))
            with crowd(server.port, 50, shakes_hands=False):  # for most there is nobody to shake hands with
                _wait_said(server, "listener_rests", turn + 1)
                sender.wait_for_more(2_000)
            check_fresh(server.ack_port, f"again{turn}")
    assert server.ready().ready


def _wait_said(server: Server, event: str, times: int) -> None:
    wait_until(lambda: sum(line["event"] == event for line in server.said()) == times, event)


def test_a_crowd_at_the_pages_leaves_the_descriptors_alone(server: Server) -> None:
    """2 000 that say nothing get the places of pages and no more; who is within is answered."""
    server.start()
    port = int(server.url.rpartition(":")[2])
    with _steady(server) as sender, ExitStack() as strangers:
        page = strangers.enter_context(closing(HTTPConnection("127.0.0.1", port, timeout=20)))
        assert _page(page, "/healthz")
        before = processes.descriptors(server.pid)
        for _ in range(20):
            strangers.enter_context(crowd(port, 100, shakes_hands=False))
            assert processes.descriptors(server.pid) < before + HttpLimits().max_connections + _PASSING
            assert _page(page, "/healthz")
        assert f"\n{_REFUSED_PAGES} 0.0\n" not in _page(page, "/metrics")
        sender.wait_for_more(1_000)
    assert server.said_event("http_connection_refused")


def _page(connection: HTTPConnection, path: str) -> str:
    """What a page says, over a connection that stays."""
    connection.request("GET", path, headers={"Host": "localhost"})
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200
    return text


@pytest.mark.tls
def test_slow_clients_are_closed_at_their_deadlines(
    make_server: MakeServer, figures: Figures, *, long_form: bool
) -> None:
    """Silent, a byte now and then, a record that is never finished, silent after one: each by its reason.

    The deadlines come when all are there and have begun, however long that took.
    """
    count, patience_s = (250, 10.0) if long_form else (20, 2.0)
    server = make_server()
    server.start()
    with _steady(server), crowd(server.port, 4 * count) as all_of_them:
        _silent, slow, unfinished, tired = (all_of_them[kind::4] for kind in range(4))
        for sock in unfinished + tired:
            sock.sendall(record("slow", 1))
        figures.deliver(2 * count, 0)  # they don't listen
        for sock in slow + unfinished:
            sock.sendall(b"1")
        _shorten_deadlines(server, patience_s)
        with Dribble(slow + unfinished):
            wait_closed(all_of_them, "slow clients")
    whys = _whys(server)
    assert whys["no_record"] == 2 * count, "the silent ones, and those that were slow from the start"
    assert whys["slow_record"] == count
    assert whys["idle_timeout"] >= count, "all of them; the machine too, if it was held up for so long"
    assert sum(stored_numbers(server.tables, "slow").values()) == 2 * count
    with reading(server.tables) as tables:
        reasons = dict(tables.execute("SELECT reason, count(*) FROM rejected_records GROUP BY reason"))
        silent = tables.execute("SELECT sum(rejected = 0) FROM connections WHERE why = 'no_record'").get
    assert reasons == {"truncated": 2 * count}
    assert silent == count, "who has said nothing leaves nothing"


def _shorten_deadlines(server: Server, patience_s: float) -> None:
    """For those who are connected, too."""
    deadlines = {
        "first_record_timeout_s": patience_s,
        "record_timeout_s": patience_s,
        "idle_timeout_s": 2 * patience_s,
    }
    server.configure({"ingest": deadlines})
    server.reload()


@pytest.mark.tls(only=True)
def test_stalled_handshakes_are_closed_at_their_deadline(make_server: MakeServer, *, long_form: bool) -> None:
    """Of those that say nothing, and of those that begin a greeting; machines connect and send meanwhile.

    In the long form they are as many as may come from one address.
    """
    count = 500 if long_form else 40
    server = make_server({"ingest": {"handshake_timeout_s": 2.0}})
    server.start()
    with _steady(server), crowd(server.port, count, shakes_hands=False, source="127.0.0.2") as strangers:
        for stranger in strangers[::2]:
            stranger.sendall(HALF_A_GREETING)
        wait_closed(strangers, "stalled handshakes")
        assert server.metric('headrace_connections_refused_total{why="tls_timeout"}') == count
    assert _whys(server).total() == 2, "the machine and its fresh records"


def test_peers_that_half_close_and_take_nothing_are_gone_in_bounded_time(
    server: Server, figures: Figures
) -> None:
    """Also those that never read what they asked for; all that they sent is stored."""
    server.start()
    with _steady(server), crowd(server.ack_port, 20) as peers:
        for number, sock in enumerate(peers):
            sock.sendall(record("half", number))
            sock.shutdown(socket.SHUT_WR)
        figures.deliver(20, 0)  # they don't listen
        wait_until(lambda: server.metric("headrace_connections_open") == 1, "they are gone", 30)
    assert stored_numbers(server.tables, "half").keys() == set(range(20))


def test_peers_that_vanish_are_given_up_and_their_places_free(
    make_server: MakeServer, figures: Figures
) -> None:
    """Their cable is pulled and nobody says so: the kernel asks, and gives up; all they sent is stored."""
    with cable() as far:
        limits = {"keepalive_s": 1, "max_connections_per_address": _PEERS}
        server = make_server({"ingest": {"host": "0.0.0.0", **limits}})  # noqa: S104  # a cable is not loopback
        server.start()
        with _steady(server), ExitStack() as peers:
            for number in range(_PEERS):
                _say_and_hear(peers.enter_context(far.connect(server.ack_port)), number)
            figures.deliver(_PEERS, _PEERS)
            wait_until(lambda: server.metric("headrace_connections_open") == 1 + _PEERS, "all are counted")
            far.pull()
            wait_until(lambda: server.metric("headrace_connections_open") == 1, "they are given up", 60)
            far.plug_in()
            _say_and_hear(peers.enter_context(far.connect(server.ack_port)), _PEERS)
            figures.deliver(1, 1)
    assert _whys(server)["timed_out"] == _PEERS
    assert stored_numbers(server.tables, "far") == dict.fromkeys(range(_PEERS + 1), 1)


def _say_and_hear(peer: wire.Line, number: int) -> None:
    """A record, and its acknowledgement."""
    peer.sendall(record("far", number))
    assert peer.recv(64) == b"ACK,1#"


def test_a_machine_above_its_share_waits_and_loses_nothing(make_server: MakeServer) -> None:
    """It is slowed down to its share; the one that keeps to it isn't."""
    server = make_server({"ingest": {"max_records_per_s": 5_000.0}})
    server.start()
    with _steady(server) as sender:
        greedy = Sender("greedy", server.ack_port, window=5_000)
        greedy.start()
        greedy.wait_for_more(12_000)
        sender.wait_for_more(1_000)
        greedy.stop()
    check_all(server.tables, [greedy])
    check_books(server.tables)
    throttled = {line["peer"] for line in server.said() if line["event"] == "connection_throttled"}
    assert len(throttled) == 1
    assert server.metric('headrace_throttles_total{limit="max_records_per_s"}') >= 1
