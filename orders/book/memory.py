"""The book in memory: the reference, and for tests."""

from orders.book.base import Order, OrderPlace
from orders.book.states import OrderState


class MemoryOrderBook:
    """An `OrderBook` that forgets everything when it goes."""

    def __init__(self) -> None:
        self._orders: dict[str, Order] = {}

    async def add(self, order: Order) -> Order:
        """Write it down unless there is one; see `OrderBook`."""
        return self._orders.setdefault(order.id, order)

    async def order(self, id_: str) -> Order | None:
        """By its id; see `OrderBook`."""
        return self._orders.get(id_)

    async def change(self, order: Order, was: OrderState) -> bool:
        """Compare the state and set the row; see `OrderBook`."""
        known = self._orders.get(order.id)
        if known is None or known.state is not was:
            return False
        self._orders[order.id] = order
        return True

    async def orders(self, user: str | None, before: OrderPlace | None, limit: int) -> list[Order]:
        """The newest first; see `OrderBook`."""
        fitting = [
            order
            for order in self._orders.values()
            if user in (None, order.user) and (before is None or place_of(order) < before)
        ]
        return sorted(fitting, key=place_of, reverse=True)[:limit]

    async def undecided(self) -> list[Order]:
        """All that are `forwarding`; see `OrderBook`."""
        return [order for order in self._orders.values() if order.state is OrderState.FORWARDING]

    async def close(self) -> None:
        """Nothing to let go of."""


def place_of(order: Order) -> OrderPlace:
    """Where it stands in the lists."""
    return OrderPlace(order.received_at, order.id)
