"""Server and sink are killed with Cassandra behind them: under load, and while a backlog drains."""

import random
import signal
from time import sleep
from typing import Final

import pytest

from devcluster import Cluster
from storage.settings import CassandraSettings
from tests.faults import processes
from tests.faults.cassandra_oracle import check_all, on_cassandra, place_of_cursor
from tests.faults.conftest import MakeServer
from tests.faults.figures import Figures
from tests.faults.harness import MIB, Server
from tests.faults.sender import Sender

pytestmark = [pytest.mark.fault, pytest.mark.cassandra, pytest.mark.timeout(300)]

_SMALL_JOURNAL: Final = {"journal": {"max_bytes": 256 * MIB}}
"""Segments of 16 MiB, so that some are sealed and trimmed."""

_PILE: Final = 150_000
_WAITING: Final = 10_000
"""Records that are more than what is under way at any moment."""

_READY_S: Final = 5.0

_moments = random.Random(1)  # noqa: S311  # no secret; repeatable


@pytest.mark.tls
@pytest.mark.long(minutes=4)
def test_server_and_sink_killed_at_any_moment_write_every_row_once(
    make_server: MakeServer, tables: CassandraSettings, figures: Figures, *, long_form: bool
) -> None:
    """By turns the server is killed with its sink, without it, and the sink alone."""
    server = make_server({**_SMALL_JOURNAL, **on_cassandra(tables)})
    server.start(seconds=60)
    senders = [Sender(f"M{number}", server.ack_port, per_second=5_000) for number in range(2)]
    for sender in senders:
        sender.start()
    took = 0.0
    for kill in range(51 if long_form else 6):
        sleep(_moments.uniform(0.1, 1.5))
        if kill % 3:
            took = max(took, _killed(server, with_sink=kill % 3 == 1))
        else:
            processes.kill(server.sink_pid())
        for sender in senders:
            sender.port = server.ack_port
            sender.wait_for_more()
    for sender in senders:
        sender.stop()
    server.wait_drained(120)
    check_all(server, tables, senders)
    figures.within("ready again in", took, _READY_S)


@pytest.mark.long(minutes=4)
def test_killed_while_a_backlog_drains_they_go_on_where_the_tables_are(
    make_server: MakeServer,
    cluster: Cluster,
    tables: CassandraSettings,
    figures: Figures,
    *,
    long_form: bool,
) -> None:
    """At any moment from when the nodes go on; only a kill counts that left records waiting."""
    server = make_server(on_cassandra(tables))
    server.start(seconds=60)
    sender = Sender("M", server.ack_port)
    sender.start()
    wanted, hit, turns = (20 if long_form else 2), 0, 0
    while hit < wanted:
        assert turns < 5 * wanted, f"only {hit} of {turns} kills were within the draining"
        for node in cluster.nodes:
            node.pause()
        try:
            sender.wait_for_more(_PILE)
        finally:
            for node in cluster.nodes:
                node.resume()
        hit += _killed_while_it_drains(server, tables, sender, turns)
        sender.port = server.ack_port
        turns += 1
    figures.notes.append(f"{hit} of {turns} kills while it drained")
    sender.stop()
    server.wait_drained(900 if long_form else 120)  # millions wait after twenty
    check_all(server, tables, [sender])


def _killed_while_it_drains(server: Server, tables: CassandraSettings, sender: Sender, turn: int) -> bool:
    """Kill server and sink or the sink alone; whether many records waited then."""
    sink = server.sink_pid()
    sleep(_moments.uniform(0.0, 1.2))
    processes.kill(sink, signal.SIGSTOP)
    waiting = len(sender.acknowledged) - place_of_cursor(tables)[2]
    if turn % 2:
        processes.kill(sink)
    else:
        _killed(server, with_sink=True)
    return waiting > _WAITING


def _killed(server: Server, *, with_sink: bool) -> float:
    """Kill the server and start it again; how long until it took data, in seconds."""
    left = server.kill()
    for process in left if with_sink else []:
        processes.kill(process)
    processes.wait_gone(left)
    return server.start(seconds=60)
