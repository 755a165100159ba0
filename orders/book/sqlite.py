"""The book in a SQLite file of its own."""

from pathlib import Path
from typing import Final

import apsw

from orders.book.base import Order, OrderPlace
from orders.book.rows import COLUMNS, from_row, known, to_row
from orders.book.states import OrderState
from storage.sqlite.changing import Database
from storage.sqlite.schema import Tables

TABLES: Final = Tables(
    int.from_bytes(b"Hord"),
    1,
    (
        """CREATE TABLE customer_orders (
            id TEXT PRIMARY KEY,
            user TEXT NOT NULL,
            user_id INTEGER NOT NULL,
            base TEXT NOT NULL,
            amount INTEGER NOT NULL,
            drilling TEXT NOT NULL,
            cleaning TEXT NOT NULL,
            pressing TEXT NOT NULL,
            inspection TEXT NOT NULL,
            state TEXT NOT NULL,
            received_at INTEGER NOT NULL,
            changed_at INTEGER NOT NULL,
            order_id INTEGER,
            product_id INTEGER,
            price INTEGER,
            detail TEXT NOT NULL
        ) WITHOUT ROWID, STRICT""",
        "CREATE INDEX customer_orders_by_time ON customer_orders (received_at, id)",
        "CREATE INDEX customer_orders_of_user ON customer_orders (user, received_at, id)",
        "CREATE INDEX customer_orders_undecided ON customer_orders (id) WHERE state = 'forwarding'",
    ),
    "orders.path",
)

_MARKS: Final = ", ".join("?" for _ in COLUMNS.split(","))

_ADD: Final = f"INSERT INTO customer_orders ({COLUMNS}) VALUES ({_MARKS}) ON CONFLICT (id) DO NOTHING"  # noqa: S608  # our own names; so are all here
_ONE: Final = f"SELECT {COLUMNS} FROM customer_orders WHERE id = ?"  # noqa: S608
_CHANGE: Final = """UPDATE customer_orders SET
    state = ?, changed_at = ?, order_id = ?, product_id = ?, price = ?, detail = ?
    WHERE id = ? AND state = ?"""
_PAGE: Final = f"""SELECT {COLUMNS} FROM customer_orders WHERE (received_at, id) < (?, ?)
    ORDER BY received_at DESC, id DESC LIMIT ?"""  # noqa: S608
_PAGE_OF: Final = f"""SELECT {COLUMNS} FROM customer_orders WHERE user = ? AND (received_at, id) < (?, ?)
    ORDER BY received_at DESC, id DESC LIMIT ?"""  # noqa: S608
_UNDECIDED: Final = f"SELECT {COLUMNS} FROM customer_orders WHERE state = 'forwarding'"  # noqa: S608

_NEWEST: Final = OrderPlace((1 << 63) - 1, "")


class SqliteOrderBook:
    """An `OrderBook` on one file, made at the first use."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, TABLES)

    async def add(self, order: Order) -> Order:
        """Write it down unless there is one; see `OrderBook`."""

        def add(connection: apsw.Connection) -> Order:
            connection.execute(_ADD, to_row(order))
            if connection.changes():
                return order
            return from_row(connection.execute(_ONE, (order.id,)).fetchall()[0])

        return await self._database.change(add)

    async def order(self, id_: str) -> Order | None:
        """By its id; see `OrderBook`."""
        rows = await self._read(_ONE, id_)
        return rows[0] if rows else None

    async def change(self, order: Order, was: OrderState) -> bool:
        """Compare the state and set the row; see `OrderBook`."""
        values = (*known(order), order.id, was)

        def change(connection: apsw.Connection) -> bool:
            connection.execute(_CHANGE, values)
            return bool(connection.changes())

        # `sent` is found out again by sending again: the order's answer need not wait for the disk twice.
        return await self._database.change(change, durable=order.state is not OrderState.SENT)

    async def orders(self, user: str | None, before: OrderPlace | None, limit: int) -> list[Order]:
        """The newest first; see `OrderBook`."""
        place = before or _NEWEST
        if user is None:
            return await self._read(_PAGE, place.received_at, place.id, limit)
        return await self._read(_PAGE_OF, user, place.received_at, place.id, limit)

    async def undecided(self) -> list[Order]:
        """All that are `forwarding`; see `OrderBook`."""
        return await self._read(_UNDECIDED)

    async def close(self) -> None:
        """Let go of the file."""
        await self._database.close()

    async def _read(self, sql: str, *values: int | str) -> list[Order]:
        rows = await self._database.read(lambda connection: connection.execute(sql, values).fetchall())
        return [from_row(row) for row in rows]
