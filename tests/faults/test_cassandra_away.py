"""Cassandra stands still, is away at a start, or is started anew: the journal takes what comes meanwhile.

How long it may then take is judged in the long form. What piled up in a minute at 10 000 records/s has to be
stored within 10 s; that is a ratio of rates, so after ten minutes it may take ten times as long, and on three
nodes on one machine, each with a copy of every row, three times.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from devcluster import Cluster
from storage.settings import CassandraSettings
from tests.faults.cassandra_oracle import check_all, on_cassandra
from tests.faults.conftest import MakeServer
from tests.faults.figures import Figures
from tests.faults.sender import SILENCE_S, Sender
from tests.faults.waiting import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.cassandra, pytest.mark.timeout(240)]

_STORED: Final = 'headrace_records_stored_total{sink="tables"}'
_DRAINED_S: Final = 10.0
"""After an outage of a minute."""

_AT_ONCE_S: Final = 5.0
_WRITING_AGAIN_S: Final = 15.0
_LATER_S: Final = 150.0
"""How long after the server the database comes, in the long form."""


@pytest.mark.long(minutes=9)
def test_machines_notice_nothing_of_a_database_that_stands_still(
    make_server: MakeServer,
    cluster: Cluster,
    tables: CassandraSettings,
    figures: Figures,
    outage_s: float | None,
) -> None:
    """For one minute or for ten in the long form, acknowledgements go on at 10 000 records/s."""
    server = make_server(on_cassandra(tables))
    server.start(seconds=60)
    sender = Sender("M", server.ack_port, per_second=10_000)
    sender.start()
    sender.wait_for_more(30_000)
    with paused(cluster):
        until = time.monotonic() + (outage_s or 12.0)
        while time.monotonic() < until:
            sender.wait_for_more(5_000)
            assert server.ready().ready, "machines notice nothing"
    behind = server.wait_caught_up(_DRAINED_S * len(cluster.nodes) * max(1.0, (outage_s or 0.0) / 60))
    assert behind > 50_000, "the database did not stand still"
    sender.stop()
    server.wait_drained()
    figures.within("silent for at most", sender.longest_silence_s, SILENCE_S)
    check_all(server, tables, [sender])


@contextmanager
def paused(cluster: Cluster) -> Iterator[None]:
    """All of it stands still."""
    for node in cluster.nodes:
        node.pause()
    try:
        yield
    finally:
        for node in cluster.nodes:
            node.resume()


@pytest.mark.long(minutes=3.5)
def test_a_server_takes_data_while_the_database_is_not_there_yet(
    make_server: MakeServer,
    cluster: Cluster,
    tables: CassandraSettings,
    tmp_path: Path,
    figures: Figures,
    *,
    long_form: bool,
) -> None:
    """It says what it waits for, and stores all once the database comes, in the long form minutes later.

    Only the first start of a journal needs the database: whether the node id is free it alone knows.
    """
    server = make_server(on_cassandra(tables))
    server.start(seconds=60)
    sender = Sender("M", server.ack_port, per_second=2_000)
    sender.start()
    sender.wait_for_more(2_000)
    assert server.stop() == 0
    cluster.stop()
    (tmp_path / "other").mkdir()
    status, said = make_server(on_cassandra(tables), folder=tmp_path / "other").refused()
    assert status == 2
    assert "no node can be reached" in said
    assert "first start needs the database" in said
    assert "Traceback" not in said
    figures.within("took data after", server.start(), _AT_ONCE_S)
    begun = time.monotonic()
    sender.port = server.ack_port
    sender.wait_for_more(10_000)
    wait_until(lambda: server.ready().sinks[0].state == "waiting", "the sink waits")
    assert "no node can be reached" in str(server.ready().sinks[0].reason)
    while long_form and time.monotonic() < begun + _LATER_S:
        sender.wait_for_more(2_000)
        assert server.ready().ready
    assert server.ready().ready
    cluster.start()
    up = time.monotonic()
    sender.wait_for_more(10_000)
    sender.stop()
    server.wait_drained()
    figures.notes.append(f"all stored {time.monotonic() - up:.1f} s after the database was up")
    check_all(server, tables, [sender])


@pytest.mark.long(minutes=1)
def test_rows_are_written_again_soon_after_the_database_was_restarted(
    make_server: MakeServer, cluster: Cluster, tables: CassandraSettings, figures: Figures
) -> None:
    """Killed and started anew under a server that goes on; what it may have forgotten is written again."""
    server = make_server(on_cassandra(tables))
    server.start(seconds=60)
    sender = Sender("M", server.ack_port, per_second=2_000)
    sender.start()
    wait_until(lambda: server.metric(_STORED) > 10_000, "rows are written")
    for node in cluster.nodes:
        node.kill()
    wait_until(lambda: server.ready().sinks[0].state == "waiting", "the sink waits")
    cluster.start()
    up, stored = time.monotonic(), server.metric(_STORED)
    wait_until(lambda: server.metric(_STORED) > stored, "rows are written again", 60)
    figures.within("rows again", time.monotonic() - up, _WRITING_AGAIN_S)
    assert server.ready().ready
    sender.stop()
    server.wait_drained()
    assert server.said_event("written_again")
    check_all(server, tables, [sender])
