"""docs/tables.md tells the truth about orders: columns, marks and the query."""

import re
from contextlib import closing
from pathlib import Path

import apsw

from mes.amp.store import AmpStore
from orders.book.cassandra import PART
from orders.book.sqlite import TABLES, SqliteOrderBook
from tests.orders.book.building import order

PAGE = (Path(__file__).parents[3] / "docs" / "tables.md").read_text(encoding="utf-8")
DOC = PAGE.partition("\n## Orders\n")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| (`[^|]*) \|", DOC, re.MULTILINE)
DESCRIBED = [name for row in ROWS for name in re.findall(r"`(\w+)`", row)]


async def test_the_book_has_the_columns_that_are_described(tmp_path: Path) -> None:
    """In both databases, and the marks of the file."""
    book = SqliteOrderBook(tmp_path / "orders.db")
    await book.add(order("a"))
    await book.close()
    with closing(apsw.Connection(str(tmp_path / "orders.db"))) as connection:
        columns = connection.execute("SELECT name FROM pragma_table_info('customer_orders')").fetchall()
    assert sorted(DESCRIBED) == sorted(str(name) for (name,) in columns)
    assert sorted(DESCRIBED) == sorted(PART.tables["customer_orders"].columns)
    assert f"`PRAGMA application_id` {TABLES.application_id}, `user_version` {TABLES.version}" in DOC
    assert all(f"`{table}`" in DOC for table in PART.tables)


async def test_the_query_of_the_queue_runs(tmp_path: Path) -> None:
    """On the supplier's file."""
    (query,) = re.findall(r"```sql\n(.*?)```", DOC, re.DOTALL)
    store = AmpStore(tmp_path / "mes.db")
    await store.open()
    await store.close()
    with closing(apsw.Connection(str(tmp_path / "mes.db"))) as connection:
        assert connection.execute(query).fetchall() == []
