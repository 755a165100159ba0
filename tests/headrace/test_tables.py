"""The commands that work on the tables: reconcile, quarantine, db; beside a running server too."""

import socket
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from orders.accounts.cassandra import ACCOUNTS
from orders.book.cassandra import PART as BOOK
from orders.logs.cassandra import PART as LOG
from storage.cassandra.connect import Connected
from storage.cassandra.schema import TABLES
from storage.cassandra.tables import tables_of
from storage.settings import CassandraSettings
from tests.faults.cassandra_oracle import on_cassandra
from tests.faults.harness import Server
from tests.faults.oracle import check_books, reading
from tests.faults.sender import deliver, record
from tests.headrace.conftest import Call
from tests.support.cassandra import Cassandra

HOT = b"E1,250,8000,2.5,3.7,380#"
"""Good but for its temperature, where that is limited to 200."""

LIMITED = {"record.limits": {"spindle_temperature_c": [0, 200]}}
_KEY = "SELECT seq, received_at FROM {} WHERE seq = 1"


@pytest.fixture
def filled(server: Server) -> Server:
    """A running server that has stored, rejected, left out and truncated."""
    server.configure(LIMITED)
    server.start()
    deliver(server.ack_port, record("E1", 1) + HOT + b"#" + b"x" * 600 + b"#" + record("E2", 2), records=5)
    server.wait_drained()
    return server


def test_reconcile_counts_the_rows(filled: Server, call: Call) -> None:
    """All adds up: exit status 0 and the equation with its numbers, beside the server and without it."""
    beside = call("reconcile")
    assert filled.stop() == 0
    after = call("reconcile")
    for done in (beside, after):
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout == (
            "received 5 = stored 2 + rejected 2 + unkept 0 + empty 1 + set aside 0 + waiting 0\n"
            "rows: 2 readings, 2 rejected_records\n"
        )


def test_reconcile_says_where_a_row_is_missing(filled: Server, call: Call) -> None:
    """One deleted row: exit status 1, with the minute and both counts."""
    assert filled.stop() == 0
    tables = apsw.Connection(str(filled.tables))
    tables.execute("DELETE FROM readings WHERE device_id = 'E2'")
    tables.close()
    done = call("reconcile")
    assert done.returncode == 1
    assert "node 0, minute 20" in done.stdout
    assert "the ledger has 2 readings, the table 1" in done.stdout
    assert done.stderr.count("\n") == 1


def test_reconcile_counts_what_waits(filled: Server, call: Call) -> None:
    """Records that are in the journal and in no table yet are neither lost nor stored."""
    lock = apsw.Connection(str(filled.tables))
    lock.set_busy_timeout(10_000)
    lock.execute("BEGIN IMMEDIATE")
    deliver(filled.ack_port, record("E3", 1) * 7, records=7)
    done = call("reconcile")
    lock.execute("ROLLBACK")
    lock.close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "received 12 =" in done.stdout
    assert "waiting 7" in done.stdout


def test_reconcile_needs_tables(call: Call) -> None:
    """Without them it says which file was looked for."""
    done = call("reconcile")
    assert done.returncode == 2
    assert "tables.db" in done.stderr
    assert done.stderr.count("\n") == 1


def test_quarantine_lists_what_may_be_judged_again(filled: Server, call: Call) -> None:
    """With time, number, peer, place, reason and bytes; never what was cut off or oversize."""
    done = call("quarantine", "list")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    for word in ("127.0.0.1:", "byte 22", "implausible spindle_temperature_c", repr(HOT[:-1])):
        assert word in done.stdout
    assert filled.ready().ready


def test_quarantine_replay_moves_what_is_good_now(filled: Server, call: Call) -> None:
    """Under its own number and time; the books follow, and a second replay changes nothing."""
    before = _key(filled.tables, "rejected_records")
    assert "1 still rejected" in call("quarantine", "replay").stdout
    filled.configure({"record.limits": {"spindle_temperature_c": [0, 300]}})
    assert call("quarantine", "replay").stdout == "1 stored\n"
    assert _key(filled.tables, "readings") == before
    check_books(filled.tables)
    assert call("quarantine", "replay").stdout == "nothing to judge\n"
    assert call("reconcile").returncode == 0
    with reading(filled.tables) as tables:
        left = tables.execute("SELECT reason FROM rejected_records").fetchall()
    assert left == [("oversize",)]


def test_quarantine_never_judges_a_truncated_record_again(filled: Server, call: Call) -> None:
    """Its bytes may parse, and are still not the record that was meant."""
    with socket.create_connection(("127.0.0.1", filled.ack_port), timeout=20) as machine:
        machine.sendall(record("E9", 1) + b"E9,35.2,8000,2.5,3.7,38")
        assert machine.recv(64) == b"ACK,1#"
        assert filled.stop() == 0
    with reading(filled.tables) as tables:
        assert tables.execute("SELECT count(*) FROM rejected_records WHERE reason = 'truncated'").get == 1
    assert "E9,35.2" not in call("quarantine", "list").stdout
    assert "stored" not in call("quarantine", "replay").stdout
    check_books(filled.tables)


def test_db_init_makes_the_tables_once(server: Server, call: Call) -> None:
    """Doing it twice changes nothing, also where there are rows."""
    assert call("db", "init").stdout == f"{server.tables}: ready\n"
    server.start()
    deliver(server.ack_port, record("E1", 1), records=1)
    server.wait_drained()
    assert call("db", "init").returncode == 0
    assert server.stop() == 0
    with reading(server.tables) as tables:
        assert tables.execute("SELECT count(*) FROM readings").get == 1


@pytest.mark.cassandra
def test_db_init_makes_all_tables_of_a_cluster(server: Server, call: Call, cassandra: Cassandra) -> None:
    """Those of accounts, orders and log, too: a server may not be allowed to. Twice changes nothing."""
    cluster = CassandraSettings(
        contact_points=tuple(cassandra.contact_points), port=cassandra.port, keyspace=cassandra.keyspace()
    )
    server.configure(on_cassandra(cluster))
    for _ in range(2):
        done = call("db", "init")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith(f"{cluster.keyspace}: ready\n")
    with closing(Connected(cluster)) as connected:
        found = tables_of(connected).keys()
    parts = [part.tables for part in (ACCOUNTS, BOOK, LOG)]
    assert found == {"headrace"}.union(TABLES, *parts)


def test_db_backup_copies_the_tables_while_they_are_written(
    filled: Server, call: Call, tmp_path: Path
) -> None:
    """The copy is whole, opens by itself, and holds what was there."""
    done = call("db", "backup", str(tmp_path / "copy.db"))
    assert done.returncode == 0, done.stderr
    assert filled.ready().ready
    check_books(tmp_path / "copy.db")
    with reading(tmp_path / "copy.db") as copy:
        assert copy.execute("SELECT count(*) FROM readings").get == 2


def test_db_backup_without_tables_says_so(call: Call, tmp_path: Path) -> None:
    """One line, exit status 2, and no half copy."""
    done = call("db", "backup", str(tmp_path / "copy.db"))
    assert done.returncode == 2
    assert "tables.db" in done.stderr
    assert not (tmp_path / "copy.db").exists()


def _key(path: Path, table: str) -> object:
    with reading(path) as tables:
        return tables.execute(_KEY.format(table)).get
