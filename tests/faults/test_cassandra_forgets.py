"""Cassandra forgets what it has confirmed: the power goes before its commit log was synced.

What a node confirms lies in its commit log, which is synced from time to time. A copy of the log stands for
what the last sync left on the disk: the node is killed later, and started on the copy. Whatever was flushed
into a table's own files meanwhile survives, and that differs from table to table; the worst is a cursor that
survives without its rows.
"""

import shutil
import signal
import time
from collections import Counter
from collections.abc import Collection, Iterator
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
    stored,
    stored_numbers,
)
from tests.faults.conftest import SYNC_S, MakeServer, tables_on
from tests.faults.harness import MIB, Server
from tests.faults.oracle import check_numbers
from tests.faults.sender import Sender, deliver, record
from tests.faults.waiting import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.cassandra, pytest.mark.timeout(900)]

_SMALL: Final = {"journal": {"max_bytes": 16 * MIB}}
"""Segments of 1 MiB, so that there is something to trim."""

_STORED: Final = 'headrace_records_stored_total{sink="tables"}'

_MANY: Final = 60_000
_FEWER: Final = 30_000
"""Records that take more than one segment, also the fewer for a machine that is slow."""

_SOME: Final = 750
"""Rows that are more than a table which is flushed all the time may have in memory."""

_TRIES: Final = 5

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

    def reported(self) -> float:
        """Rows that its server says it has stored."""
        return self.server.metric(_STORED)

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
        server = make_server({**_SMALL, **on_cassandra(tables)}, folder=folder)
        server.start(seconds=60)
        found[name] = Plant(server, tables)
        found[name].flush_always(survivors)
    yield found
    for plant in found.values():
        plant.sender.abandon()


@pytest.mark.long(minutes=4)
def test_nothing_is_lost_that_the_database_has_forgotten(
    plants: dict[str, Plant], one_node: Cluster, sync_s: float
) -> None:
    """Every plant runs until its journal was trimmed; then the log is cut to what it was a sync before."""
    node = one_node.nodes[0]
    for plant in plants.values():
        _deliver(plant.server, "B")
        plant.sender.start()
    for plant in plants.values():
        wait_until(partial(_trimmed, plant.server), "the journal is trimmed", 120)
    sinks = _stop_young(plants.values(), node, sync_s)
    before = {name: plant.reported() - _MANY for name, plant in plants.items()}
    _cut(node)
    node.start()
    node.wait_up()
    lost = {name: before[name] - _stored(plant) for name, plant in plants.items()}
    print("rows before:", before, "forgotten:", lost)  # noqa: T201
    assert lost["the rows"] < min(lost["nothing"], lost["the cursor"]), "the cut took nothing"
    for name in ("the cursor", "cursor and books"):
        cursor = place_of_cursor(plants[name].tables)[2]
        assert cursor > _stored(plants[name]) + _MANY, "the cursor did not survive"
    for sink in sinks:
        processes.kill(sink, signal.SIGCONT)
    for plant in plants.values():
        wait_until(partial(plant.server.said_event, "written_again"), "blocks are written again", 60)
        plant.sender.stop()
    for plant in plants.values():
        _check(plant)


@pytest.mark.long(minutes=2)
def test_nothing_is_trimmed_that_a_node_may_have_forgotten(
    make_server: MakeServer, one_node: Cluster, sync_s: float
) -> None:
    """A node that is away for longer than its log is synced can come back without what it confirmed."""
    one_node.start()
    tables = tables_on(one_node)
    server = make_server({**_SMALL, **on_cassandra(tables)})
    server.start()
    node = one_node.nodes[0]
    devices = _deliver_young(server, node, sync_s)
    _cut(node)
    time.sleep(3 * sync_s)
    node.start()
    node.wait_up()
    whole = {device: Counter(range(records)) for device, records in devices.items()}
    wait_until(lambda: stored(tables) == whole, "the tables have all again", 120, rest=1.0)
    check_all(server, tables, [])


@pytest.mark.long(minutes=3)
def test_nothing_is_lost_that_one_of_a_majority_has_forgotten(
    make_server: MakeServer, three_nodes: Cluster
) -> None:
    """Two of three copies were confirmed, one of the two is forgotten: a majority has the rows no more."""
    tables = tables_on(three_nodes, consistency="QUORUM")
    server = make_server({**_SMALL, **on_cassandra(tables)})
    server.start(seconds=60)
    first, second, third = three_nodes.nodes
    third.pause()
    try:
        wait_until(lambda: third.address not in first.sees() | second.sees(), "it is away", 120, rest=0.5)
        devices = _deliver_young(server, second, SYNC_S)
        _cut(second)
    finally:
        third.resume()
    second.start()
    second.wait_up()
    wait_until(partial(server.said_event, "written_again"), "blocks are written again", 90)
    server.wait_drained(60)
    first.stop()
    for device, records in devices.items():
        check_numbers(device, stored_numbers(tables, device), range(records))
    three_nodes.start()
    check_all(server, tables, [])
    three_nodes.stop()  # three nodes at rest would still cost the tests that come after this


def _deliver(server: Server, device: str, records: int = _MANY) -> None:
    data = b"".join(record(device, number) for number in range(records))
    deliver(server.ack_port, data, records=records)


def _stop_young(plants: Collection[Plant], node: Node, sync_s: float) -> list[int]:
    """Stop the sinks no later than a sync after a log of the node was put aside; each has written meanwhile.

    Then what is younger than that log and its last sync has not stood for two periods: none relies on it.
    """
    sinks = [plant.server.sink_pid() for plant in plants]
    for _ in range(_TRIES):
        begun, before = time.monotonic(), [plant.reported() for plant in plants]
        _synced(node)
        time.sleep(0.7 * sync_s)
        for sink in sinks:
            processes.kill(sink, signal.SIGSTOP)
        is_young = time.monotonic() < begun + sync_s
        wrote = [plant.reported() - rows for plant, rows in zip(plants, before, strict=True)]
        if is_young and min(wrote) > _SOME:
            return sinks
        for sink in sinks:
            processes.kill(sink, signal.SIGCONT)
    pytest.fail(
        f"{_TRIES} times nothing was written in {0.7 * sync_s:g} s, or a copy of the log took so long"
    )


def _deliver_young(server: Server, node: Node, sync_s: float) -> dict[str, int]:
    """Have rows stored that are younger than a sync, and a log of the node from before.

    A node can't lose more than a sync, and who writes relies on that. So where it took longer, another
    device begins when all before it is synced, with fewer records. These are told for each device.
    """
    devices: dict[str, int] = {}
    for _ in range(_TRIES):
        _synced(node)
        copied = time.monotonic()
        device, records = f"B{len(devices)}", _FEWER if devices else _MANY
        devices[device] = records
        _deliver(server, device, records)
        server.wait_drained(60)
        if time.monotonic() < copied + sync_s:
            return devices
        time.sleep(sync_s)
    pytest.fail(f"{_FEWER} records took longer than {sync_s} s, {_TRIES} times")


def _trimmed(server: Server) -> bool:
    return not (server.journal / "00000001.db").exists()


def _stored(plant: Plant) -> int:
    return len(stored_numbers(plant.tables, "M"))


def _synced(node: Node) -> None:
    """Put a copy of the commit log aside, as it is now."""
    shutil.rmtree(node.folder / "synced", ignore_errors=True)
    shutil.copytree(node.folder / "commitlog", node.folder / "synced")


def _cut(node: Node) -> None:
    """Kill the node, and leave it the copy."""
    node.kill()
    shutil.rmtree(node.folder / "commitlog")
    (node.folder / "synced").rename(node.folder / "commitlog")


def _check(plant: Plant) -> None:
    plant.server.wait_drained(120)
    again = [line for line in plant.server.said() if line["event"] == "written_again"]
    print("blocks written again:", [(line["first"], line["last"]) for line in again])  # noqa: T201
    assert not plant.server.said_event("journal_gap")
    check_numbers("B", stored_numbers(plant.tables, "B"), range(_MANY))
    check_all(plant.server, plant.tables, [plant.sender])
