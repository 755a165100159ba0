"""Cassandra stands still, is away at a start, or is started anew: the journal takes what comes meanwhile."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devcluster import Cluster, Node
from storage.settings import CassandraSettings
from tests.faults.cassandra_oracle import check_all, on_cassandra
from tests.faults.conftest import MakeServer
from tests.faults.figures import Figures
from tests.faults.sender import Sender
from tests.faults.waiting import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.cassandra, pytest.mark.timeout(240)]

_STORED = 'headrace_records_stored_total{sink="tables"}'


@pytest.mark.long(minutes=9)
def test_machines_notice_nothing_of_a_database_that_stands_still(
    make_server: MakeServer,
    one_node: Cluster,
    tables: CassandraSettings,
    figures: Figures,
    outage_s: float | None,
) -> None:
    """For one minute or for ten in the long form, acknowledgements go on at 10 000 records/s."""
    server = make_server(on_cassandra(tables))
    server.start()
    sender = Sender("M", server.ack_port, per_second=10_000)
    sender.start()
    sender.wait_for_more(30_000)
    with paused(one_node.nodes[0]):
        until = time.monotonic() + (outage_s or 12.0)
        while time.monotonic() < until:
            sender.wait_for_more(5_000)
            assert server.ready().ready, "machines notice nothing"
    behind = server.wait_caught_up()
    assert behind > 50_000, "the database did not stand still"
    sender.stop()
    server.wait_drained()
    figures.notes.append(f"silent for at most {sender.longest_silence_s:.2f} s")
    check_all(server, tables, [sender])


@contextmanager
def paused(node: Node) -> Iterator[None]:
    """It stands still."""
    node.pause()
    try:
        yield
    finally:
        node.resume()


def test_a_server_takes_data_while_the_database_is_not_there_yet(
    make_server: MakeServer, one_node: Cluster, tables: CassandraSettings, tmp_path: Path
) -> None:
    """It says what it waits for, and stores everything once the database comes.

    Only the first start of a journal needs the database: whether the node id is free it alone knows.
    """
    server = make_server(on_cassandra(tables))
    server.start()
    sender = Sender("M", server.ack_port, per_second=2_000)
    sender.start()
    sender.wait_for_more(2_000)
    assert server.stop() == 0
    one_node.nodes[0].stop()
    (tmp_path / "other").mkdir()
    status, said = make_server(on_cassandra(tables), folder=tmp_path / "other").refused()
    assert status == 2
    assert "no node can be reached" in said
    assert "first start needs the database" in said
    assert "Traceback" not in said
    took = server.start()
    sender.port = server.ack_port
    sender.wait_for_more(10_000)
    wait_until(lambda: server.ready().sinks[0].state == "waiting", "the sink waits")
    assert "no node can be reached" in str(server.ready().sinks[0].reason)
    assert server.ready().ready
    one_node.nodes[0].start()
    one_node.nodes[0].wait_up()
    up = time.monotonic()
    sender.wait_for_more(10_000)
    sender.stop()
    server.wait_drained()
    print(f"took data after {took:.1f} s; all stored {time.monotonic() - up:.1f} s after the database was up")  # noqa: T201
    check_all(server, tables, [sender])


def test_rows_are_written_again_soon_after_the_database_was_restarted(
    make_server: MakeServer, one_node: Cluster, tables: CassandraSettings
) -> None:
    """Killed and started anew under a server that goes on; what it may have forgotten is written again."""
    server = make_server(on_cassandra(tables))
    server.start()
    sender = Sender("M", server.ack_port, per_second=2_000)
    sender.start()
    wait_until(lambda: server.metric(_STORED) > 10_000, "rows are written")
    one_node.nodes[0].kill()
    wait_until(lambda: server.ready().sinks[0].state == "waiting", "the sink waits")
    one_node.nodes[0].start()
    one_node.nodes[0].wait_up()
    up, stored = time.monotonic(), server.metric(_STORED)
    wait_until(lambda: server.metric(_STORED) > stored, "rows are written again", 60)
    took = time.monotonic() - up
    assert server.ready().ready
    sender.stop()
    server.wait_drained()
    print(f"rows again {took:.1f} s after the node was up")  # noqa: T201
    assert server.said_event("written_again")
    check_all(server, tables, [sender])
