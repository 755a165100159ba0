"""Three nodes, three copies of each row: one may be missing without anybody noticing, two are waited for."""

import time
from typing import Final

import pytest

from devcluster import Cluster
from tests.faults.cassandra_oracle import check_all, on_cassandra
from tests.faults.conftest import MakeServer, tables_on
from tests.faults.figures import Figures
from tests.faults.harness import Server
from tests.faults.sender import SILENCE_S, Sender
from tests.faults.waiting import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.cassandra, pytest.mark.timeout(900)]

_STORED: Final = 'headrace_records_stored_total{sink="tables"}'
_WRITING_AGAIN_S: Final = 15.0


@pytest.mark.long(minutes=3)
def test_nodes_are_killed_until_no_majority_is_left(
    make_server: MakeServer, three_nodes: Cluster, figures: Figures
) -> None:
    """One of three: no trouble at all. Two: the journal takes it all and says why. Back: all is stored."""
    tables = tables_on(three_nodes, consistency="QUORUM")
    _, second, third = three_nodes.nodes
    server = make_server(on_cassandra(tables))
    server.start(seconds=60)
    sender = Sender("M", server.ack_port, per_second=2_000)
    sender.start()
    wait_for_rows(server, 5_000)

    waits = server.times_said("sink_waits")
    third.kill()
    wait_for_rows(server, 10_000)
    assert server.times_said("sink_waits") == waits, "one missing node is no trouble"

    second.kill()
    wait_until(lambda: server.ready().sinks[0].state == "waiting", "the sink waits", 60)
    figures.notes.append(f"it waits for: {server.ready().sinks[0].reason}")
    sender.wait_for_more(10_000)
    assert server.ready().ready, "machines notice nothing"

    second.start()
    second.wait_up()
    figures.within("with a majority rows again", _until_rows(server), _WRITING_AGAIN_S)
    sender.stop()
    server.wait_drained(120)
    check_all(server, tables, [sender])
    three_nodes.stop()  # three nodes at rest would still cost the tests that come after this


@pytest.mark.long(minutes=3)
def test_one_node_that_stands_still_is_not_noticed(
    make_server: MakeServer, three_nodes: Cluster, figures: Figures, *, long_form: bool
) -> None:
    """Its connections live and nothing comes of them; rows go on being written, and machines are answered."""
    tables = tables_on(three_nodes, consistency="QUORUM")
    server = make_server(on_cassandra(tables))
    server.start(seconds=60)
    sender = Sender("M", server.ack_port, per_second=2_000)
    sender.start()
    wait_for_rows(server, 5_000)
    still = three_nodes.nodes[2]
    still.pause()
    try:
        for _ in range(10 if long_form else 2):
            figures.within("rows again", _until_rows(server), _WRITING_AGAIN_S)
            wait_for_rows(server, 10_000)
            assert server.ready().ready, "machines notice nothing"
    finally:
        still.resume()
    sender.stop()
    server.wait_drained(120)
    figures.within("silent for at most", sender.longest_silence_s, SILENCE_S)
    check_all(server, tables, [sender])


def _until_rows(server: Server) -> float:
    """Wait until rows are written; how long that took, in seconds."""
    up = time.monotonic()
    wait_for_rows(server, 1)
    return time.monotonic() - up


def wait_for_rows(server: Server, count: int) -> None:
    """Wait until so many more rows are written than now."""
    stored = server.metric(_STORED)
    wait_until(lambda: server.metric(_STORED) >= stored + count, f"{count} rows are written", 90)
