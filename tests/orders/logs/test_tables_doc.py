"""docs/tables.md tells the truth about the log: its columns, its marks, its queries."""

import re
import time
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from orders.logs.base import Level
from orders.logs.cassandra import PART, CassandraLogStore
from orders.logs.sqlite import TABLES, SqliteLogStore
from orders.settings import KeepDays
from storage.cassandra.connect import Connected
from storage.cassandra.tables import use
from storage.settings import CassandraSettings
from tests.orders.logs.building import HOUR_MS, NOON, row

PAGE = (Path(__file__).parents[3] / "docs" / "tables.md").read_text(encoding="utf-8")
DOC = PAGE.partition("## The log of the order gateway\n")[2].partition("\n## ")[0]
DESCRIBED = re.findall(r"^\| `(\w+)` \|([^|]*)\|([^|]*)\|", DOC, re.MULTILINE)


async def test_the_file_is_as_described(tmp_path: Path) -> None:
    """Columns with their types, the key, and the marks."""
    store = SqliteLogStore(tmp_path / "log.db", KeepDays())
    await store.append([])
    await store.close()
    with closing(apsw.Connection(str(tmp_path / "log.db"))) as connection:
        columns = connection.execute("SELECT name, lower(type), pk FROM pragma_table_info('log')").fetchall()
    described = [
        (name, kind.split(",")[0].strip(), int((re.findall("key (.)", kind) or ["0"])[0]))
        for name, kind, _ in DESCRIBED
        if kind.strip()
    ]
    assert sorted(described) == sorted(columns)
    assert f"`PRAGMA application_id` is {TABLES.application_id}" in DOC
    assert f"`PRAGMA user_version` {TABLES.version}." in DOC


def test_the_cluster_is_as_described() -> None:
    """The same columns and one more."""
    described = {name: re.sub(r", (partition|key) .", "", kind).strip() for name, _, kind in DESCRIBED}
    assert described == PART.tables["log"].columns


async def test_the_query_of_the_file_runs(tmp_path: Path) -> None:
    """The newest trouble of the last day, with its reason."""
    now = time.time_ns() // 1_000_000
    store = SqliteLogStore(tmp_path / "log.db", KeepDays())
    await store.append(
        [
            row(
                now - 2_000,
                level=Level.WARN,
                message="Connection attempt failed",
                reason="Invalid credentials",
            ),
            row(now - 1_000, level=Level.FATAL, message="over", trace_id="f" * 32),
            row(now),
            row(now - 25 * HOUR_MS, level=Level.ERROR),
        ]
    )
    await store.close()
    (query,) = re.findall(r"```sql\n(.*?)```", DOC, re.DOTALL)
    with closing(apsw.Connection(str(tmp_path / "log.db"))) as connection:
        found = [values[1:] for values in connection.execute(query)]
    user = "Factory_model_customer"
    assert found == [
        ("FATAL", user, "over", None, "f" * 32),
        ("WARN", user, "Connection attempt failed", "Invalid credentials", None),
    ]


@pytest.mark.cassandra
async def test_the_queries_of_the_cluster_run(cassandra_settings: CassandraSettings) -> None:
    """The hours, then the rows of one."""
    store = CassandraLogStore(cassandra_settings, KeepDays(), deadline_s=30.0)
    await store.append([row(NOON + 5, level=Level.WARN, message="Connection attempt failed")])
    await store.close()
    hours, of_one = re.findall(r"```cql\n(.*?)```", DOC, re.DOTALL)
    with closing(Connected(cassandra_settings)) as connected:
        use(connected)
        ((found,),) = connected.ask([connected.bound(hours, "WARN", NOON - HOUR_MS)])
        (rows,) = connected.ask([connected.bound(of_one, *found, "WARN")])
    assert [values[2] for values in rows] == ["Connection attempt failed"]
