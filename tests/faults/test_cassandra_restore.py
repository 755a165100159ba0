"""A keyspace is put back from older snapshots of its nodes, taken and imported as docs/operations.md says.

A machine sends while the snapshots are taken, one after the other: the cursor of the copy is older than its
rows and books, and no two tables need be of one moment.
"""

import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from devcluster import Cluster
from storage.factory import open_books
from storage.reconcile import reconcile
from storage.settings import CassandraSettings, StorageSettings
from tests.faults.cassandra_oracle import (
    check_all,
    on_cassandra,
    place_of_cursor,
    reading,
    stored_numbers,
)
from tests.faults.conftest import MakeServer
from tests.faults.harness import COMMAND, MIB, Server
from tests.faults.oracle import check_numbers
from tests.faults.sender import Sender, deliver, record
from tests.faults.waiting import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.cassandra, pytest.mark.timeout(600)]

_TAGS: Final = {"nodes": "cursor", "purged": "sums"}
"""Which snapshot has which table; all others are in `rows`."""

_MARK: Final = "headrace"
"""The table that `headrace db init` has filled."""

_STORED: Final = 'headrace_records_stored_total{sink="tables"}'

_FEW: Final = 100
_MANY: Final = 120_000
"""Records that take several of the segments."""

_SMALL: Final = {"journal": {"max_bytes": 16 * MIB}}
"""Segments of 1 MiB, so that there is something to trim."""


@pytest.mark.long(minutes=4)
def test_an_older_copy_of_the_keyspace_is_filled_from_what_the_journal_keeps(
    make_server: MakeServer, cluster: Cluster, tables: CassandraSettings, tmp_path: Path, *, restarted: bool
) -> None:
    """From its cursor on, or from what was durable then where a node was started since; each row is one."""
    server = make_server({"journal": {"keep_hours": 1}, **on_cassandra(tables)})
    server.start(seconds=60)
    sender = Sender("M", server.ack_port, per_second=2_000)
    sender.start()
    wait_until(lambda: place_of_cursor(tables)[1] > 0, "something is durable", 90, rest=0.5)
    copy = _copied(cluster, tables, tmp_path / "copy", partial(_wait_for_rows, server))
    sender.wait_for_more(10_000)
    sender.stop()
    server.wait_drained()
    assert server.stop() == 0
    reached, _, numbers = place_of_cursor(tables)
    if restarted:
        for node in cluster.nodes:
            node.kill()
        cluster.start()
    _put_back(server, cluster, tables, copy)
    block, durable, known = place_of_cursor(tables)
    assert 0 < durable <= block < reached
    assert known < len(stored_numbers(tables, "M")) < numbers, "the cursor is not older than its rows"
    server.start(seconds=60)
    server.wait_drained(120)
    assert server.said_event("written_again") is restarted
    assert not server.said_event("journal_gap")
    check_all(server, tables, [sender])


@pytest.mark.long(minutes=3)
def test_an_older_copy_of_the_keyspace_never_hides_what_is_missing(
    make_server: MakeServer, cluster: Cluster, tables: CassandraSettings, tmp_path: Path
) -> None:
    """What the journal has no more is a gap, `reconcile` finds it, and no number is given a second time."""
    server = make_server({**_SMALL, **on_cassandra(tables)})
    server.start(seconds=60)
    _send(server, "before", _FEW)
    copy = _copied(cluster, tables, tmp_path / "copy", lambda: None)
    _send(server, "between", _FEW)
    _send(server, "many", _MANY)
    wait_until(lambda: not (server.journal / "00000001.db").exists(), "the journal is trimmed", 120)
    assert server.stop() == 0
    _, _, numbers = place_of_cursor(tables)
    _put_back(server, cluster, tables, copy)
    server.start(seconds=60)
    _send(server, "after", _FEW)
    assert server.said_event("journal_gap")
    for device in ("before", "after"):
        check_numbers(device, stored_numbers(tables, device), range(_FEW))
    assert not stored_numbers(tables, "between")
    assert place_of_cursor(tables)[2] == numbers + _FEW
    with closing(open_books(StorageSettings(backend="cassandra", cassandra=tables))) as books:
        assert reconcile(books, waiting=None).findings, "rows are missing, and nobody says so"


def _wait_for_rows(server: Server) -> None:
    stored = server.metric(_STORED)
    wait_until(lambda: server.metric(_STORED) > stored + 2_000, "rows are written")


def _send(server: Server, device: str, count: int) -> None:
    """Deliver records of a device, and wait until they are rows."""
    deliver(server.ack_port, b"".join(record(device, number) for number in range(count)), records=count)
    server.wait_drained()


def _copied(cluster: Cluster, tables: CassandraSettings, folder: Path, between: Callable[[], None]) -> Path:
    """Take the snapshots, one after the other on all nodes, and copy the files of each node away."""
    for tag, words in (("cursor", ("--table", "nodes")), ("rows", ()), ("sums", ("--table", "purged"))):
        for node in cluster.nodes:
            node.nodetool("snapshot", "-t", tag, *words, tables.keyspace)
            between()
    for node in cluster.nodes:
        for found in (node.folder / "data" / tables.keyspace).glob("*/snapshots/*"):
            table = found.parent.parent.name.partition("-")[0]
            if found.name == _TAGS.get(table, "rows"):
                shutil.copytree(found, folder / node.address / tables.keyspace / table)
    return folder


def _put_back(server: Server, cluster: Cluster, tables: CassandraSettings, copy: Path) -> None:
    """Make the keyspace anew, and give each node its own files."""
    with reading(tables) as session:
        session.define(f"DROP KEYSPACE {tables.keyspace}")
    subprocess.run([COMMAND, "db", "init", "--config", server.config], check=True, timeout=180)
    for node in cluster.nodes:
        for table in sorted((copy / node.address / tables.keyspace).iterdir()):
            if table.name != _MARK and any(table.glob("*-Data.db")):
                node.nodetool("import", tables.keyspace, table.name, str(table))
