"""AMP's MES: orders are checked, priced, queued and followed here. Each step is logged.

The store decides what may become of an order, in the change itself, so that two callers can't both have
their way.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from mes.amp.errors import AmpError
from mes.amp.orders import NewOrder, Order, OrderRequest, Placed
from mes.amp.states import State
from mes.amp.store import AmpStore
from storage.clock import now_ms

_log = structlog.get_logger(__name__)


class AmpService:
    """What can be done with orders. Every call may raise `storage.errors.StorageError`."""

    def __init__(self, store: AmpStore, *, now_ms: Callable[[], int] = now_ms) -> None:
        self._store = store
        self._now_ms = now_ms
        self.arrived = asyncio.Event()
        """Set when an order has entered the queue; the line clears it."""

        self.moved = asyncio.Event()
        """Set when an order has changed its state; the line clears it."""

    async def place(self, key: str, request: OrderRequest) -> Placed:
        """Take an order; the same request with the same key is the same order.

        Raises:
            RefusedError: it can't be ordered so.
            KeyReusedError: the key came with another request before.
        """
        try:
            product = request.check()
            new = NewOrder(
                user_id=request.user_id,
                product_id=product.product_id,
                amount=request.amount,
                price=request.amount * product.unit_price,
                received_at=self._now_ms(),
            )
            placed = await self._store.place(key, request.digest, new)
        except AmpError as error:
            _log.warning("order_refused", reason=str(error))
            raise
        self._tell(placed)
        return placed

    def _tell(self, placed: Placed) -> None:
        order = placed.order
        if not placed.is_new:
            _log.info("order_repeated", order_id=order.order_id, state=order.state)
            return
        _log.info(
            "order_received",
            order_id=order.order_id,
            user_id=order.user_id,
            product_id=order.product_id,
            amount=order.amount,
            price=order.price,
        )
        _log.info("order_queued", order_id=order.order_id, place=order.place)
        self.arrived.set()

    async def order(self, order_id: int) -> Order:
        """One order.

        Raises:
            NoSuchOrderError: there is none with this number.
        """
        return await self._store.order(order_id)

    async def orders(self, order_ids: Sequence[int]) -> list[Order]:
        """Those that there are, by number."""
        return await self._store.orders(order_ids)

    async def queue(self, *, state: State | None = None, after: int = 0, limit: int = 100) -> list[Order]:
        """Open orders in the order of production; or those in one state, the newest last.

        `after` is the number of the last order of the page before.
        """
        return await self._store.queue(state, after=after, limit=limit)

    async def cancel(self, order_id: int) -> Order:
        """The order, cancelled.

        Raises:
            NoSuchOrderError: there is none with this number.
            TransitionError: production has begun, or it is over.
        """
        return await self._move(order_id, State.CANCELLED, "order_cancelled")

    async def set_state(self, order_id: int, state: State) -> Order:
        """The order, now in this state.

        Raises:
            NoSuchOrderError: there is none with this number.
            TransitionError: it can't get into this state.
        """
        return await self._move(order_id, state, "order_state_changed")

    async def _move(self, order_id: int, state: State, step: str) -> Order:
        try:
            order = await self._store.move(order_id, state, self._now_ms())
        except AmpError as error:
            _log.warning("order_refused", order_id=order_id, reason=str(error))
            raise
        _log.info(step, order_id=order_id, state=state)
        self.moved.set()
        return order
