"""The book in a cluster: an order is one partition, and who writes first is decided by compare-and-set.

Lists need rows of their own: by customer and month, by month for all (under a name that no customer can
have), and those that are undecided. They are written before the order and point to it, so a crash between
leaves a pointer to nothing, which reading skips, and never an order that no list has.
"""

from datetime import UTC, datetime
from typing import Any, Final

from orders.book.base import Order, OrderPlace
from orders.book.rows import COLUMNS, from_row, known, to_row
from orders.book.states import OrderState
from storage.cassandra.asking import Asker, all_of
from storage.cassandra.parts import Part, use_part
from storage.cassandra.schema import Table, columns_of
from storage.cassandra.times import to_ms
from storage.settings import CassandraSettings

PART: Final = Part(
    "orders",
    1,
    {
        "customer_orders": Table(
            columns_of(
                "id text, user text, user_id int, base text, amount int, drilling text, cleaning text,"
                " pressing text, inspection text, state text, received_at timestamp, changed_at timestamp,"
                " order_id bigint, product_id int, price bigint, detail text"
            ),
            "id",
        ),
        "customer_orders_by_time": Table(
            columns_of("user text, month timestamp, received_at timestamp, id text"),
            "(user, month), received_at, id",
            "received_at DESC, id DESC",
        ),
        "customer_order_months": Table(columns_of("user text, month timestamp"), "user, month", "month DESC"),
        "customer_orders_undecided": Table(columns_of("shard int, id text"), "shard, id"),
    },
)

_EVERYBODY: Final = "*"
_SHARD: Final = 0
_NEWEST: Final = OrderPlace((1 << 53) - 1, "")

_MARKS: Final = ", ".join("?" for _ in COLUMNS.split(","))
_ADD: Final = f"INSERT INTO customer_orders ({COLUMNS}) VALUES ({_MARKS}) IF NOT EXISTS"  # noqa: S608  # our own names; so are all here
_ONE: Final = f"SELECT {COLUMNS} FROM customer_orders WHERE id = ?"  # noqa: S608
_CHANGE: Final = """UPDATE customer_orders SET
    state = ?, changed_at = ?, order_id = ?, product_id = ?, price = ?, detail = ?
    WHERE id = ? IF state = ?"""
_LIST: Final = "INSERT INTO customer_orders_by_time (user, month, received_at, id) VALUES (?, ?, ?, ?)"
_MONTH: Final = "INSERT INTO customer_order_months (user, month) VALUES (?, ?)"
_MONTHS: Final = "SELECT month FROM customer_order_months WHERE user = ? AND month <= ?"
_PAGE: Final = """SELECT received_at, id FROM customer_orders_by_time WHERE user = ? AND month = ?
    AND (received_at, id) < (?, ?) LIMIT ?"""
_OPEN: Final = "INSERT INTO customer_orders_undecided (shard, id) VALUES (?, ?)"
_CLOSE: Final = "DELETE FROM customer_orders_undecided WHERE shard = ? AND id = ?"
_UNDECIDED: Final = "SELECT id FROM customer_orders_undecided WHERE shard = ?"


class CassandraOrderBook:
    """An `OrderBook` on a cluster, reached at the first use."""

    def __init__(self, settings: CassandraSettings, *, deadline_s: float = 5.0) -> None:
        self._asker = Asker(settings, lambda connected: use_part(connected, PART), deadline_s=deadline_s)

    async def add(self, order: Order) -> Order:
        """Write it down unless there is one; see `OrderBook`."""
        return await self._asker.within(self._add(order))

    async def order(self, id_: str) -> Order | None:
        """By its id; see `OrderBook`."""
        return await self._asker.within(self._order(id_))

    async def change(self, order: Order, was: OrderState) -> bool:
        """Compare the state and set the row; see `OrderBook`."""
        return await self._asker.within(self._change(order, was))

    async def orders(self, user: str | None, before: OrderPlace | None, limit: int) -> list[Order]:
        """The newest first; see `OrderBook`."""
        name = _EVERYBODY if user is None else user
        return await self._asker.within(self._orders(name, before or _NEWEST, limit))

    async def undecided(self) -> list[Order]:
        """All that are `forwarding`; see `OrderBook`."""
        return await self._asker.within(self._undecided())

    async def close(self) -> None:
        """Let go of the cluster."""
        await self._asker.close()

    # What the calls do.

    async def _add(self, order: Order) -> Order:
        if (known_one := await self._order(order.id)) is not None:
            return known_one
        await self._enter(order)
        row = (await self._asker.ask(_ADD, *to_row(order)))[0]
        if row[0]:
            return order
        found = await self._order(order.id)
        return order if found is None else found

    async def _enter(self, order: Order) -> None:
        """Into the lists."""
        month = _month_of(order.received_at)
        names = (order.user, _EVERYBODY)
        await all_of(
            [
                *(self._asker.ask(_MONTH, name, month) for name in names),
                *(self._asker.ask(_LIST, name, month, order.received_at, order.id) for name in names),
                self._asker.ask(_OPEN, _SHARD, order.id),
            ]
        )

    async def _change(self, order: Order, was: OrderState) -> bool:
        if order.state is OrderState.FORWARDING:
            await self._asker.ask(_OPEN, _SHARD, order.id)
        row = (await self._asker.ask(_CHANGE, *known(order), order.id, was))[0]
        if row[0] and order.state is not OrderState.FORWARDING:
            await self._asker.ask(_CLOSE, _SHARD, order.id)
        return bool(row[0])

    async def _orders(self, name: str, before: OrderPlace, limit: int) -> list[Order]:
        found: list[Order] = []
        for (month,) in await self._asker.ask(_MONTHS, name, _month_of(before.received_at)):
            while len(found) < limit:
                wanted = limit - len(found)
                page = await self._asker.ask(_PAGE, name, to_ms(month), before.received_at, before.id, wanted)
                places = [OrderPlace(to_ms(received_at), id_) for received_at, id_ in page]
                found += await self._at(places)
                if len(places) < wanted:
                    break
                before = places[-1]
        return found

    async def _at(self, places: list[OrderPlace]) -> list[Order]:
        """The orders at these places; a place whose order was written at another time, or never, is none."""
        orders = await all_of([self._order(place.id) for place in places])
        return [
            order
            for order, place in zip(orders, places, strict=True)
            if order is not None and order.received_at == place.received_at
        ]

    async def _undecided(self) -> list[Order]:
        ids = [id_ for (id_,) in await self._asker.ask(_UNDECIDED, _SHARD)]
        orders = await all_of([self._order(id_) for id_ in ids])
        return [order for order in orders if order is not None and order.state is OrderState.FORWARDING]

    async def _order(self, id_: str) -> Order | None:
        rows = await self._asker.ask(_ONE, id_)
        return from_row(_in_ms(rows[0])) if rows else None


def _in_ms(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The two times as numbers."""
    place = COLUMNS.split(", ").index("received_at")
    return (*row[:place], to_ms(row[place]), to_ms(row[place + 1]), *row[place + 2 :])


def _month_of(ms: int) -> int:
    """The beginning of the month that holds this time, UTC; of the last that there is for times beyond."""
    at = datetime.fromtimestamp(min(ms, _LAST_MS) / 1000, UTC)
    return int(datetime(at.year, at.month, 1, tzinfo=UTC).timestamp() * 1000)


_LAST_MS: Final = 253_402_300_799_000
"""The end of the year 9999."""
