"""Three nodes, three copies of each row: one may be missing without anybody noticing, two are waited for."""

import time
from typing import Final

import pytest

from devcluster import Cluster
from tests.faults.cassandra_oracle import check_all, on_cassandra
from tests.faults.conftest import MakeServer, tables_on
from tests.faults.harness import Server
from tests.faults.sender import Sender
from tests.faults.waiting import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.cassandra, pytest.mark.timeout(400)]

_STORED: Final = 'headrace_records_stored_total{sink="tables"}'


@pytest.mark.long(minutes=5)
def test_nodes_are_killed_until_no_majority_is_left(
    make_server: MakeServer, three_nodes: Cluster, *, long_form: bool
) -> None:
    """One of three: no trouble at all. Two: the journal takes it all and says why. Back: all is stored.

    In the long form all three are killed and started together then.
    """
    tables = tables_on(three_nodes, replication_factor=3, consistency="QUORUM")
    _, second, third = three_nodes.nodes
    server = make_server(on_cassandra(tables))
    server.start(seconds=60)
    sender = Sender("M", server.ack_port, per_second=2_000)
    sender.start()
    wait_for_rows(server, 5_000)

    third.kill()
    wait_for_rows(server, 10_000)
    assert not server.said_event("sink_waits"), "one missing node is no trouble"

    second.kill()
    wait_until(lambda: server.ready().sinks[0].state == "waiting", "the sink waits", 60)
    print("it waits for:", server.ready().sinks[0].reason)  # noqa: T201
    sender.wait_for_more(10_000)
    assert server.ready().ready, "machines notice nothing"

    second.start()
    second.wait_up()
    _wait_for_rows_again(server, "a majority was up")
    if long_form:
        for node in three_nodes.nodes:
            node.kill()
        three_nodes.start()
        _wait_for_rows_again(server, "all were up together")
    sender.stop()
    server.wait_drained(120)
    check_all(server, tables, [sender])
    three_nodes.stop()  # three nodes at rest would still cost the tests that come after this


def _wait_for_rows_again(server: Server, since: str) -> None:
    up = time.monotonic()
    wait_for_rows(server, 1)
    print(f"rows again {time.monotonic() - up:.1f} s after {since}")  # noqa: T201


def wait_for_rows(server: Server, count: int) -> None:
    """Wait until so many more rows are written than now."""
    stored = server.metric(_STORED)
    wait_until(lambda: server.metric(_STORED) >= stored + count, f"{count} rows are written", 90)
