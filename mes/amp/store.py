"""AMP's orders and its production queue, in a SQLite file of their own.

An order, its entry in the queue and the key of its request are one change: after a crash there is all of it
or nothing, and who asks again with the same key gets the same order. Numbers are given by the file's only
writer and rows never go, so they count 1, 2, 3 ... and are also the order of the queue.

The place in the queue is not stored, as each order that leaves would move all behind it. It is counted, and
to count 100 000 open orders for each new one would be slow: `open_orders` holds how many of each 256 numbers
are open, kept by a trigger. A place is a sum over these and a count within one of them. What is not open any
more costs nothing there.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import apsw
import msgspec

from mes.amp.errors import KeyReusedError, NoSuchOrderError, TransitionError
from mes.amp.orders import NewOrder, Order, Placed
from mes.amp.states import TRANSITIONS, State
from storage.sqlite.changing import Database
from storage.sqlite.schema import Tables

_STATEMENTS: Final = (
    """CREATE TABLE orders (
        order_id INTEGER PRIMARY KEY,
        user_id INTEGER NOT NULL,
        product_id INTEGER NOT NULL,
        amount INTEGER NOT NULL,
        price INTEGER NOT NULL,
        received_at INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE queue (
        order_id INTEGER PRIMARY KEY REFERENCES orders,
        state TEXT NOT NULL,
        changed_at INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX queue_by_state ON queue (state, order_id)",
    """CREATE TABLE requests (
        key TEXT PRIMARY KEY,
        order_id INTEGER NOT NULL REFERENCES orders,
        digest BLOB NOT NULL
    ) WITHOUT ROWID, STRICT""",
    """CREATE TABLE open_orders (
        part INTEGER PRIMARY KEY,
        orders INTEGER NOT NULL
    ) STRICT""",
    """CREATE TRIGGER order_opens AFTER UPDATE OF state ON queue
        WHEN new.state IN ('queued', 'in production') AND old.state NOT IN ('queued', 'in production')
    BEGIN
        INSERT INTO open_orders VALUES (new.order_id >> 8, 1)
            ON CONFLICT (part) DO UPDATE SET orders = orders + 1;
    END""",
    """CREATE TRIGGER order_closes AFTER UPDATE OF state ON queue
        WHEN old.state IN ('queued', 'in production') AND new.state NOT IN ('queued', 'in production')
    BEGIN
        UPDATE open_orders SET orders = orders - 1 WHERE part = new.order_id >> 8;
        DELETE FROM open_orders WHERE part = new.order_id >> 8 AND orders = 0;
    END""",
    """CREATE VIEW orders_now AS
        SELECT user_id, product_id, amount, price, received_at, queue.order_id, state, changed_at,
            CASE WHEN state IN ('queued', 'in production') THEN
                (SELECT coalesce(sum(orders), 0) FROM open_orders WHERE part < queue.order_id >> 8)
                + (SELECT count(*) FROM queue AS near WHERE near.state IN ('queued', 'in production')
                    AND near.order_id BETWEEN queue.order_id >> 8 << 8 AND queue.order_id)
            END AS place
        FROM queue JOIN orders ON orders.order_id = queue.order_id""",
)

TABLES: Final = Tables(int.from_bytes(b"Hmes"), 1, _STATEMENTS, "mes.path")

_ADD_ORDER: Final = """INSERT INTO orders (user_id, product_id, amount, price, received_at)
    VALUES (?,?,?,?,?) RETURNING order_id"""
_ADD_ENTRY: Final = "INSERT INTO queue VALUES (?,?,?)"
_ADD_REQUEST: Final = "INSERT INTO requests VALUES (?,?,?)"
_REQUEST: Final = "SELECT order_id, digest FROM requests WHERE key = ?"
_STATE: Final = "SELECT state FROM queue WHERE order_id = ?"
_MOVE: Final = "UPDATE queue SET state = ?, changed_at = ? WHERE order_id = ?"

ONE: Final = "SELECT * FROM orders_now WHERE order_id = ?"
SOME: Final = """SELECT * FROM orders_now WHERE order_id IN (SELECT value FROM json_each(?))
    ORDER BY order_id"""
IN_LINE: Final = """SELECT * FROM orders_now WHERE state = 'in production' AND order_id > ?1
    UNION ALL SELECT * FROM orders_now WHERE state = 'queued' AND order_id > ?1
    ORDER BY order_id LIMIT ?2"""
"""Two walks along the index, merged; with `IN` all open orders would be sorted."""

IN_STATE: Final = "SELECT * FROM orders_now WHERE state = ? AND order_id > ? ORDER BY order_id LIMIT ?"


class AmpStore:
    """Orders by number, in the order in which they came.

    Every call may raise `storage.errors.StorageError`.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, TABLES)

    async def open(self) -> None:
        """Open the file, made with its tables where there is none, instead of at the first call."""
        await self._database.change(lambda _: None)

    async def place(self, key: str, digest: bytes, new: NewOrder) -> Placed:
        """A new order at the end of the queue, or the one that this key has brought before.

        Raises:
            KeyReusedError: the key came before with a request of another digest.
        """
        return await self._database.change(lambda connection: _place(connection, key, digest, new))

    async def move(self, order_id: int, state: State, at: int) -> Order:
        """The order, now in this state.

        Raises:
            NoSuchOrderError: there is none with this number.
            TransitionError: it can't get into this state.
        """

        def change(connection: apsw.Connection) -> Order:
            _move(connection, order_id, state, at)
            return _one(connection, order_id)

        return await self._database.change(change)

    async def order(self, order_id: int) -> Order:
        """One order.

        Raises:
            NoSuchOrderError: there is none with this number.
        """
        return await self._database.read(lambda connection: _one(connection, order_id))

    async def orders(self, order_ids: Sequence[int]) -> list[Order]:
        """Those that there are, by number."""
        numbers = msgspec.json.encode(order_ids).decode("ascii")
        return await self._read(SOME, numbers)

    async def queue(self, state: State | None, *, after: int, limit: int) -> list[Order]:
        """By number, above `after`: the open orders, or those in one state."""
        if state is None:
            return await self._read(IN_LINE, after, limit)
        return await self._read(IN_STATE, state, after, limit)

    async def close(self) -> None:
        """Let go of the file."""
        await self._database.close()

    async def _read(self, question: str, *values: str | int) -> list[Order]:
        return await self._database.read(
            lambda connection: [_order(row) for row in connection.execute(question, values)]
        )


def _place(connection: apsw.Connection, key: str, digest: bytes, new: NewOrder) -> Placed:
    known = connection.execute(_REQUEST, (key,)).fetchone()
    if known is not None:
        order_id, digest_before = known
        if digest_before != digest:
            raise KeyReusedError(order_id)
        return Placed(_one(connection, order_id), is_new=False)
    order_id = connection.execute(_ADD_ORDER, msgspec.structs.astuple(new)).get
    entry = (order_id, State.RECEIVED, new.received_at)
    connection.execute(_ADD_ENTRY, entry)
    connection.execute(_ADD_REQUEST, (key, order_id, digest))
    _move(connection, order_id, State.QUEUED, new.received_at)
    return Placed(_one(connection, order_id), is_new=True)


def _move(connection: apsw.Connection, order_id: int, state: State, at: int) -> None:
    found = connection.execute(_STATE, (order_id,)).get
    if found is None:
        raise NoSuchOrderError
    before = State(found)
    if state not in TRANSITIONS[before]:
        raise TransitionError(before, state)
    connection.execute(_MOVE, (state, at, order_id))


def _one(connection: apsw.Connection, order_id: int) -> Order:
    row = connection.execute(ONE, (order_id,)).fetchone()
    if row is None:
        raise NoSuchOrderError
    return _order(row)


def _order(row: Iterable[object]) -> Order:
    """The view's columns stand in the order of the fields."""
    return msgspec.convert(dict(zip(Order.__struct_fields__, row, strict=True)), Order)
