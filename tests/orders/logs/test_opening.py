"""Where the log is kept: made at the first use, refused where it is somebody else's."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from orders.logs import sqlite
from orders.logs.base import Level, LogPage
from orders.logs.cassandra import CassandraLogStore
from orders.logs.factory import open_log
from orders.settings import KeepDays, LogSettings
from storage.cassandra.connect import Connected
from storage.errors import SchemaError, StoreUnavailableError
from storage.settings import CassandraSettings, StorageSettings
from storage.sqlite.writer import SqliteTableWriter
from tests.orders.logs.building import ALL, row, rows
from tests.support.cassandra import Cassandra

COLUMNS = {
    "id",
    "timestamp",
    "user_id",
    "additional_info",
    "level",
    "message",
    "source_component",
    "source_file",
    "source_line",
}


async def test_the_file_is_made_at_the_first_use(tmp_path: Path) -> None:
    """With the columns that were given and the owner's marks; readable by its owner only."""
    path = tmp_path / "data" / "log.db"
    store = open_log(StorageSettings(), LogSettings(path=str(path)))
    assert not path.exists()
    assert await store.query(ALL, 1) == LogPage([], None)
    await store.append([row(level=Level.ERROR, reason="none")])
    await store.close()
    assert path.stat().st_mode & 0o077 == 0
    with closing(apsw.Connection(str(path))) as connection:
        assert connection.pragma("application_id") == int.from_bytes(b"Hlog")
        assert {
            name for (name,) in connection.execute("SELECT name FROM pragma_table_info('log')")
        } == COLUMNS
        assert connection.execute("SELECT level, additional_info ->> 'reason' FROM log").fetchall() == [
            ("ERROR", "none")
        ]


async def test_another_tables_file_is_left_alone(tmp_path: Path) -> None:
    """The telemetry's, for one."""
    path = tmp_path / "headrace.db"
    SqliteTableWriter(path).close()
    store = sqlite.SqliteLogStore(path, KeepDays())
    with pytest.raises(SchemaError, match=r"log\.path"):
        await store.append([row()])
    await store.close()


async def test_a_search_never_reads_more_than_it_looks_at(tmp_path: Path) -> None:
    """Both ways into the table search by a key: none sorts, none scans."""
    store = sqlite.SqliteLogStore(tmp_path / "log.db", KeepDays())
    await store.append([row()])
    await store.close()
    with closing(apsw.Connection(str(tmp_path / "log.db"))) as connection:
        for cql, bound in _statements():
            steps = [str(step[-1]) for step in connection.execute("EXPLAIN QUERY PLAN " + cql, bound)]
            assert steps, cql
            assert not [step for step in steps if "SCAN" in step or "TEMP B-TREE" in step], steps


def _statements() -> list[tuple[str, tuple[str | int, ...]]]:
    return [
        (sqlite._OF_ALL, (0, 1, "")),
        (sqlite._OF_LEVEL, ("INFO", 0, 1, "")),
        (sqlite._DELETE, ("INFO", 0, 1)),
    ]


def test_the_embedded_log_loads_no_driver() -> None:
    """Who runs on SQLite needs nothing of Cassandra's."""
    program = (
        "import sys; from orders.logs.factory import open_log; from orders.settings import LogSettings;"
        "from storage.settings import StorageSettings; open_log(StorageSettings(), LogSettings());"
        "sys.exit('cassandra' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.cassandra
async def test_a_cluster_gets_its_tables_at_the_first_use(cassandra_settings: CassandraSettings) -> None:
    """The log that the configuration asks for; with one column more, for the partition."""
    settings = StorageSettings(backend="cassandra", cassandra=cassandra_settings)
    store = open_log(settings, LogSettings())
    written = row(reason="none")
    await store.append([written])
    assert await rows(store) == [written]
    await store.close()
    with closing(Connected(cassandra_settings)) as connected:
        found = dict(
            connected.execute(
                "SELECT column_name, type FROM system_schema.columns WHERE keyspace_name = %s"
                " AND table_name = 'log'",
                cassandra_settings.keyspace,
            )
        )
    assert found.keys() == COLUMNS | {"hour"}
    assert (found["id"], found["timestamp"], found["hour"]) == ("uuid", "timestamp", "timestamp")
    assert found["additional_info"] == "map<text, text>"


@pytest.mark.cassandra
async def test_without_a_keyspace_it_waits_for_one(cassandra: Cassandra) -> None:
    """It says what makes one, and that trying again helps."""
    settings = CassandraSettings(
        contact_points=tuple(cassandra.contact_points), port=cassandra.port, keyspace=cassandra.keyspace()
    )
    store = CassandraLogStore(settings, KeepDays(), deadline_s=30.0)
    with pytest.raises(StoreUnavailableError, match="headrace db init"):
        await store.append([row()])
    await store.close()
