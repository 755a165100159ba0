"""Cassandra forgets what it has confirmed: the power goes before its commit log was synced.

What a node confirms lies in its commit log, which is synced every ten seconds. A copy of the log stands for
what the last sync left on the disk: the node is killed later, and started on the copy. Whatever was flushed
into a table's own files meanwhile survives, and that differs from table to table; the worst is a cursor that
survives without its rows.
"""

import shutil
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from devcluster import Cluster, Node
from storage.settings import CassandraSettings
from tests.faults import processes
from tests.faults.cassandra_oracle import (
    check_all,
    on_cassandra,
    place_of_cursor,
    reading,
    stored_numbers,
)
from tests.faults.conftest import MakeServer, tables_on
from tests.faults.harness import MIB, Server
from tests.faults.sender import Sender
from tests.faults.waiting import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.cassandra, pytest.mark.timeout(300)]

_SYNC_S: Final = 10.0
_RESTS: Final = 2 * _SYNC_S
"""So long the journal keeps what the tables have confirmed."""

SURVIVORS: Final = {
    "nothing": (),
    "the cursor": ("nodes",),
    "cursor and books": ("nodes", "ledger", "connections"),
    "the rows": ("readings",),
}
"""Tables that are flushed all the time, so that nothing of them is lost."""


class Plant:
    """A server, its tables on a node that will be cut, and the machine that feeds it."""

    def __init__(self, server: Server, tables: CassandraSettings) -> None:
        self.server = server
        self.tables = tables
        self.sender = Sender("M", server.ack_port, per_second=500)

    def flush_always(self, names: tuple[str, ...]) -> None:
        """Have these tables written to their own files each half second."""
        with reading(self.tables) as session:
            for name in names:
                session.execute(f"ALTER TABLE {name} WITH memtable_flush_period_in_ms = 500")


@pytest.fixture
def plants(make_server: MakeServer, one_node: Cluster, tmp_path: Path) -> Iterator[dict[str, Plant]]:
    """One for each choice of tables that survive, all on one node."""
    one_node.start()
    found = {}
    for number, (name, survivors) in enumerate(SURVIVORS.items()):
        tables = tables_on(one_node)
        folder = tmp_path / str(number)
        folder.mkdir()
        server = make_server({"journal": {"max_bytes": 16 * MIB}, **on_cassandra(tables)}, folder=folder)
        server.start(seconds=60)
        found[name] = Plant(server, tables)
        found[name].flush_always(survivors)
    yield found
    for plant in found.values():
        plant.sender.abandon()


def test_nothing_is_lost_that_the_database_has_forgotten(plants: dict[str, Plant], one_node: Cluster) -> None:
    """Every plant runs until its journal was trimmed once; then the log is cut to what it was 9 s before."""
    node = one_node.nodes[0]
    for plant in plants.values():
        plant.sender.start()
    for plant in plants.values():
        wait_until(partial(_has_durable, plant), "some of it is durable", 60)
    _synced(node)
    at_copy = {name: len(plant.sender.acknowledged) for name, plant in plants.items()}
    time.sleep(_SYNC_S - 1)
    before = {name: _stored(plant) for name, plant in plants.items()}
    sinks = [plant.server.sink_pid() for plant in plants.values()]
    for sink in sinks:
        processes.kill(sink, signal.SIGSTOP)
    _cut(node)
    node.wait_up()
    lost = {name: before[name] - _stored(plant) for name, plant in plants.items()}
    print("rows at the copy:", at_copy, "before:", before, "forgotten:", lost)  # noqa: T201
    assert lost["the rows"] < min(lost["nothing"], lost["the cursor"]), "the cut took nothing"
    for name in ("the cursor", "cursor and books"):
        assert place_of_cursor(plants[name].tables)[2] > _stored(plants[name]), "the cursor did not survive"
    for sink in sinks:
        processes.kill(sink, signal.SIGCONT)
    for plant in plants.values():
        wait_until(partial(plant.server.said_event, "written_again"), "blocks are written again", 60)
        plant.sender.stop()
    for plant in plants.values():
        _check(plant)


def _has_durable(plant: Plant) -> bool:
    return place_of_cursor(plant.tables)[1] > 0


def _stored(plant: Plant) -> int:
    return len(stored_numbers(plant.tables, "M"))


def _synced(node: Node) -> None:
    """Put a copy of the commit log aside, as it is now."""
    shutil.copytree(node.folder / "commitlog", node.folder / "synced")


def _cut(node: Node) -> None:
    """Kill the node, and start it on the copy."""
    node.kill()
    shutil.rmtree(node.folder / "commitlog")
    (node.folder / "synced").rename(node.folder / "commitlog")
    node.start()


def _check(plant: Plant) -> None:
    plant.server.wait_drained(120)
    again = [line for line in plant.server.said() if line["event"] == "written_again"]
    print("blocks written again:", [(line["first"], line["last"]) for line in again])  # noqa: T201
    assert not plant.server.said_event("journal_gap")
    check_all(plant.server, plant.tables, [plant.sender])
