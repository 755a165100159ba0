"""AmpFacadeAPI: takes a customer's order, sees that it is one, forwards it, and says what became of it.

An order is written down before anything is sent and is `forwarding` until the supplier's word about it is
written down too. So whatever ends in between, a lost answer, a crash of either side, the order is sent again
with the same key, by the customer's next try or by `resolve`, and the supplier makes one order of all of it.

The customer hears one of four things: the order with its number; that it can't be one (422); that the
supplier surely has not got it (503, `failed`); or that nobody knows yet (504, `forwarding`), which is
followed up.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple

import msgspec

from orders.book.base import Order, OrderBook, OrderPlace, id_of
from orders.book.states import TRANSITIONS, OrderState
from orders.checking import check_order
from orders.errors import (
    KeyReusedError,
    NoSuchOrderError,
    NotCancellableError,
    OverloadedError,
    RefusedError,
    SupplierBrokenError,
    SupplierError,
)
from orders.metrics import OrderMetrics
from orders.request import OrderRequest, described
from orders.settings import OrderSettings
from orders.speaking import Speaker
from orders.supplier import Placed, Queued, Supplier
from storage.clock import now_ms
from storage.errors import StorageError

_RESOLVE_S: Final = 5.0
_CANCELLED: Final = "cancelled"
"""As the supplier says it."""


class Customer(NamedTuple):
    """Who orders."""

    id: int
    name: str


class Standing(NamedTuple):
    """An order, and how the supplier says it stands, where that is known."""

    order: Order
    placed: Placed | None


class AmpFacade:
    """The gateway's side of all orders; used on one loop."""

    def __init__(
        self,
        book: OrderBook,
        supplier: Supplier,
        settings: OrderSettings,
        log: Speaker,
        *,
        metrics: OrderMetrics,
        traceparent: Callable[[], str],
        now_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._book = book
        self._supplier = supplier
        self._settings = settings
        self._log = log
        self._metrics = metrics
        self._traceparent = traceparent
        self._now_ms = now_ms
        self._under_way: dict[str, asyncio.Task[Standing]] = {}

    @property
    def is_full(self) -> bool:
        """Whether as many orders are under way as there may be."""
        return len(self._under_way) >= self._settings.max_waiting

    async def submit(self, customer: Customer, request: OrderRequest, key: str) -> Standing:
        """Order this; with the same key again, the same order.

        Raises:
            InvalidOrderError: it can't be ordered.
            KeyReusedError: the key belongs to something else.
            OverloadedError: too many are under way.
            RefusedError: the supplier will not take it.
            SupplierError: it has not arrived, or nobody knows; see `may_have_arrived`.
            StorageError: the book can't be written; nothing was sent.
        """
        with self._metrics.told():
            return await self._take(customer, request, key)

    async def standing(self, id_: str, user: str | None) -> Standing:
        """An order and how it stands; of this user only, unless that is None.

        Raises:
            NoSuchOrderError: there is none.
            StorageError: the book can't be read.
        """
        order = await self._find(id_, user)
        return (await self._standings([order]))[0]

    async def orders(self, user: str | None, before: OrderPlace | None, limit: int) -> list[Standing]:
        """The newest first; where the supplier can't be asked, without how they stand."""
        return await self._standings(await self._book.orders(user, before, limit))

    async def cancel(self, id_: str, user: str | None) -> Standing:
        """Take an order back; one that is cancelled already stays so.

        Raises:
            NoSuchOrderError: there is none.
            NotCancellableError: it is too late, or not known yet whether the supplier has it.
            SupplierError: the supplier can't be asked; the order stands as it was.
            StorageError: the book can't be read or written.
        """
        order = await self._find(id_, user)
        if order.state is OrderState.CANCELLED:
            return Standing(order, None)
        if order.state is not OrderState.SENT or order.order_id is None:
            raise NotCancellableError(_WHY_NOT[order.state])
        placed = await self._taken_back(order.order_id)
        cancelled, _ = await self._changed(order, OrderState.CANCELLED)
        self._log.info("Order was cancelled", user_id=order.user, order_id=order.order_id)
        return Standing(cancelled, placed)

    async def queue(self, limit: int) -> list[Queued]:
        """The supplier's queue."""
        return await self._supplier.queue(limit)

    async def resolve(self, since: int | None = None) -> int:
        """Send again what is undecided since then, or at all; how many are decided now.

        While the supplier is away the others wait, too.
        """
        decided = 0
        for order in await self._book.undecided():
            if order.id in self._under_way or (since is not None and order.changed_at > since):
                continue
            try:
                await self._once(order.id, self._forward(order, is_first=False))
            except SupplierBrokenError:
                continue
            except SupplierError:
                break
            except RefusedError:
                pass
            decided += 1
        return decided

    async def resolve_for_ever(self) -> None:
        """The same, every few seconds, until cancelled; what another server may be sending is left to it."""
        patience_ms = round(2_000 * self._settings.timeout_s)
        while True:
            try:
                await self.resolve(self._now_ms() - patience_ms)
            except StorageError:
                pass  # who orders meanwhile is told
            except Exception as error:  # noqa: BLE001  # whatever it is, the next round is tried
                self._log.error("Undecided orders could not be sent", reason=repr(error))
            await asyncio.sleep(_RESOLVE_S)

    async def close(self) -> None:
        """Let orders that are under way come to their end: the supplier's deadline bounds it."""
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    # What becomes of one order.

    async def _take(self, customer: Customer, request: OrderRequest, key: str) -> Standing:
        check_order(request, self._settings.max_amount)
        id_ = id_of(customer.id, key)
        if (under_way := self._under_way.get(id_)) is not None:
            return _same(await asyncio.shield(under_way), request)
        if self.is_full:
            raise OverloadedError
        now = self._now_ms()
        order = Order(
            id=id_,
            user=customer.name,
            user_id=customer.id,
            request=request,
            state=OrderState.FORWARDING,
            received_at=now,
            changed_at=now,
        )
        return await self._once(id_, self._submit(order))

    async def _once(self, id_: str, fate: Coroutine[Any, Any, Standing]) -> Standing:
        """In a task of its own: it goes on when the customer hangs up, and who asks meanwhile joins."""
        task = asyncio.ensure_future(fate)
        self._under_way[id_] = task
        task.add_done_callback(lambda _: self._landed(id_, task))
        return await asyncio.shield(task)

    def _landed(self, id_: str, task: "asyncio.Task[Standing]") -> None:
        del self._under_way[id_]
        if not task.cancelled():
            task.exception()  # it was told to whoever still waits

    async def _submit(self, asked: Order) -> Standing:
        order = await self._book.add(asked)
        if order.request != asked.request:
            raise KeyReusedError
        if order.state is OrderState.REFUSED:
            raise RefusedError(order.detail)
        if order.state in (OrderState.SENT, OrderState.CANCELLED):
            return (await self._standings([order]))[0]
        self._log.info("Order was validated", user_id=order.user, order=order.id)
        is_first = order is asked
        if order.state is OrderState.FAILED:
            order, is_first = await self._changed(order, OrderState.FORWARDING)
        return await self._forward(order, is_first=is_first)

    async def _forward(self, order: Order, *, is_first: bool) -> Standing:
        """Send it, and write down what the supplier says; `is_first`: it surely was not sent before."""
        try:
            placed = await self._supplier.place(order.id, order.user_id, order.request, self._traceparent())
        except RefusedError as refusal:
            await self._changed(order, OrderState.REFUSED, detail=str(refusal))
            self._log.warning("Order was refused by the supplier", user_id=order.user, reason=str(refusal))
            raise
        except SupplierError as error:
            raise await self._not_placed(order, error, is_first=is_first) from error
        self._log.info("Order was forwarded to the supplier", user_id=order.user, order=order.id)
        return Standing(await self._placed(order, placed), placed)

    async def _placed(self, order: Order, placed: Placed) -> Order:
        known = msgspec.structs.replace(
            order, order_id=placed.order_id, product_id=placed.product_id, price=placed.price
        )
        try:
            sent = await self._sent(known)
        except StorageError as error:  # the supplier has it all the same, and `resolve` will write it down
            self._log.error("Order was placed and could not be noted", user_id=order.user, reason=str(error))
            sent = msgspec.structs.replace(known, state=OrderState.SENT)
        self._log.info(
            f"Order of {described(order.request)} successfully carried out",
            user_id=order.user,
            order=order.id,
            order_id=placed.order_id,
        )
        return sent

    async def _sent(self, order: Order) -> Order:
        """The supplier's word in the book; also where another server took the order for failed meanwhile."""
        sent, was_us = await self._changed(order, OrderState.SENT)
        if not was_us and sent.state is OrderState.FAILED:
            failed = msgspec.structs.replace(order, state=OrderState.FAILED)
            sent, _ = await self._changed(failed, OrderState.SENT)
        return sent

    async def _not_placed(self, order: Order, error: SupplierError, *, is_first: bool) -> SupplierError:
        """What to tell: `failed` only where the supplier surely has nothing of it."""
        may_have_arrived = error.may_have_arrived or not is_first
        say = self._log.error if isinstance(error, SupplierBrokenError) else self._log.warning
        say(
            "Order could not be forwarded",
            user_id=order.user,
            order=order.id,
            reason=str(error),
            supplier="may have it" if may_have_arrived else "has not got it",
        )
        if not may_have_arrived:
            order, was_us = await self._changed(order, OrderState.FAILED, detail=str(error))
            may_have_arrived = not was_us  # another server has sent it
        return type(error)(str(error), may_have_arrived=may_have_arrived, order=order)

    async def _changed(self, order: Order, state: OrderState, *, detail: str = "") -> tuple[Order, bool]:
        """The order in its new state, and whether it was us who changed it; see `TRANSITIONS`."""
        was = order.state
        if state not in TRANSITIONS[was]:
            raise AssertionError(f"{was} -> {state}")
        changed = msgspec.structs.replace(order, state=state, detail=detail, changed_at=self._now_ms())
        if await self._book.change(changed, was):
            return changed, True
        return await self._book.order(order.id) or changed, False

    async def _taken_back(self, order_id: int) -> Placed:
        """Cancelled now, or by an earlier try whose answer was lost."""
        try:
            return await self._supplier.cancel(order_id, self._traceparent())
        except NotCancellableError:
            placed = (await self._supplier.standing([order_id])).get(order_id)
            if placed is None or placed.state != _CANCELLED:
                raise
            return placed

    async def _find(self, id_: str, user: str | None) -> Order:
        order = await self._book.order(id_)
        if order is None or user not in (None, order.user):
            raise NoSuchOrderError
        return order

    async def _standings(self, orders: list[Order]) -> list[Standing]:
        """How they stand with the supplier, where it can be asked."""
        numbers = [order.order_id for order in orders if order.order_id is not None]
        try:
            placed = await self._supplier.standing(numbers)
        except SupplierError:
            placed = {}
        return [Standing(order, placed.get(order.order_id or 0)) for order in orders]


def _same(standing: Standing, request: OrderRequest) -> Standing:
    if standing.order.request != request:
        raise KeyReusedError
    return standing


_WHY_NOT: Final = {
    OrderState.FORWARDING: "it is not known yet whether the supplier has it; try again in a little while",
    OrderState.FAILED: "the supplier never got it",
    OrderState.REFUSED: "the supplier refused it",
}
