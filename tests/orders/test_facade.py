"""From the customer's order to the supplier's word, with everything that can happen in between.

The supplier is the product's own MES behind real HTTP; what goes wrong on the way is put between.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from mes.amp.states import State
from orders.book.base import id_of
from orders.book.sqlite import SqliteOrderBook
from orders.book.states import OrderState
from orders.errors import (
    InvalidOrderError,
    KeyReusedError,
    NoSuchOrderError,
    NotCancellableError,
    OverloadedError,
    RefusedError,
    SupplierAwayError,
    SupplierBrokenError,
    SupplierError,
    SupplierSlowError,
)
from orders.facade import AmpFacade, Customer
from orders.metrics import OrderMetrics
from orders.request import described
from orders.settings import OrderSettings
from orders.supplier import Supplier
from tests.orders.book.building import request
from tests.orders.supplier_side import TOKEN, Mes, answering, lost_answer, never

CUSTOMER = Customer(1, "Factory_model_customer")
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


class Heard:
    """A log that a test can read."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, dict[str, object]]] = []

    def info(self, message: str, /, *, user_id: str | None = None, **info: object) -> None:
        """As structlog's."""
        self.rows.append(("INFO", message, {"user_id": user_id, **info}))

    def warning(self, message: str, /, *, user_id: str | None = None, **info: object) -> None:
        """As structlog's."""
        self.rows.append(("WARN", message, {"user_id": user_id, **info}))

    def error(self, message: str, /, *, user_id: str | None = None, **info: object) -> None:
        """As structlog's."""
        self.rows.append(("ERROR", message, {"user_id": user_id, **info}))

    @property
    def messages(self) -> list[str]:
        """In their order."""
        return [message for _, message, _ in self.rows]


class Gateway:
    """A facade over a book on the disk; another one can be opened on the same book."""

    def __init__(self, folder: Path, mes: Mes) -> None:
        self.folder = folder
        self.mes = mes
        self.log = Heard()
        self.registry = CollectorRegistry()

    def told(self, outcome: str) -> float:
        """How many customers were told so, by the gateway that was opened last."""
        return self.registry.get_sample_value("headrace_orders_total", {"outcome": outcome}) or 0.0

    @asynccontextmanager
    async def open(
        self, *, token: str = TOKEN, timeout_s: float = 1.0, max_waiting: int = 256
    ) -> AsyncIterator[AmpFacade]:
        """Until the context ends."""
        settings = OrderSettings(mes_url=self.mes.url, timeout_s=timeout_s, max_waiting=max_waiting)
        book = SqliteOrderBook(self.folder / "orders.db")
        async with Supplier(self.mes.url, token, timeout_s=timeout_s) as supplier:
            self.registry = CollectorRegistry()
            metrics = OrderMetrics(self.registry)
            yield AmpFacade(book, supplier, settings, self.log, metrics=metrics, traceparent=lambda: TRACE)
        await book.close()


@pytest_asyncio.fixture
async def mes(tmp_path: Path) -> AsyncIterator[Mes]:
    """The supplier's side; not served yet."""
    mes = Mes(tmp_path)
    async with mes.served():  # so that it has a port
        pass
    yield mes
    await mes.store.close()


@pytest.fixture
def gateway(tmp_path: Path, mes: Mes) -> Gateway:
    """The gateway's side."""
    return Gateway(tmp_path, mes)


async def test_an_order_gets_its_number_and_its_place(gateway: Gateway, mes: Mes) -> None:
    """And the book has what the supplier said."""
    async with mes.served(), gateway.open() as facade:
        first = await facade.submit(CUSTOMER, request(), "a")
        second = await facade.submit(CUSTOMER, request(), "b")
    assert first.order.state is OrderState.SENT
    assert (first.order.order_id, first.order.product_id, first.order.price) == (1, 8, 600)
    assert first.placed is not None
    assert second.placed is not None
    assert (first.placed.place, second.placed.place) == (1, 2)


async def test_what_customers_are_told_is_counted(gateway: Gateway, mes: Mes) -> None:
    """By outcome, as Prometheus sees it."""
    async with mes.served(), gateway.open(timeout_s=0.3) as facade:
        await facade.submit(CUSTOMER, request(), "a")
        mes.troubles = [answering(503)] * 10
        with pytest.raises(SupplierAwayError):
            await facade.submit(CUSTOMER, request(), "b")
        mes.troubles = [never]
        with pytest.raises(SupplierSlowError):
            await facade.submit(CUSTOMER, request(), "c")
        with pytest.raises(InvalidOrderError):
            await facade.submit(CUSTOMER, request(0), "d")
    outcomes = ("sent", "failed", "unknown", "invalid", "refused")
    assert [gateway.told(outcome) for outcome in outcomes] == [1, 1, 1, 1, 0]


async def test_every_step_is_logged(gateway: Gateway, mes: Mes) -> None:
    """In the words of the facts."""
    async with mes.served(), gateway.open() as facade:
        await facade.submit(CUSTOMER, request(), "a")
    assert gateway.log.messages == [
        "Order was validated",
        "Order was forwarded to the supplier",
        f"Order of {described(request())} successfully carried out",
    ]
    assert all(info["user_id"] == CUSTOMER.name for _, _, info in gateway.log.rows)


async def test_the_same_key_makes_one_order_across_a_restart(gateway: Gateway, mes: Mes) -> None:
    """The second answer is the first one's order."""
    async with mes.served():
        async with gateway.open() as facade:
            first = await facade.submit(CUSTOMER, request(), "a")
        async with gateway.open() as facade:
            again = await facade.submit(CUSTOMER, request(), "a")
        assert again.order == first.order
        assert await mes.orders() == 1


async def test_clicks_at_once_make_one_order(gateway: Gateway, mes: Mes) -> None:
    """They wait for the one that is under way."""
    async with mes.served(), gateway.open() as facade:
        standings = await asyncio.gather(*(facade.submit(CUSTOMER, request(), "a") for _ in range(10)))
        assert {one.order.order_id for one in standings} == {1}
        assert await mes.orders() == 1
        assert mes.requests == 1


async def test_a_key_belongs_to_what_was_ordered_with_it(gateway: Gateway, mes: Mes) -> None:
    """Another order with it is refused, also while the first is under way."""
    async with mes.served(), gateway.open() as facade:
        first = asyncio.ensure_future(facade.submit(CUSTOMER, request(), "a"))
        await asyncio.sleep(0)
        with pytest.raises(KeyReusedError):
            await facade.submit(CUSTOMER, request(41), "a")
        await first
        with pytest.raises(KeyReusedError):
            await facade.submit(CUSTOMER, request(41), "a")
        assert await mes.orders() == 1


async def test_what_can_not_be_ordered_is_not_written_down(gateway: Gateway, mes: Mes) -> None:
    """Nor sent."""
    async with mes.served(), gateway.open() as facade:
        with pytest.raises(InvalidOrderError):
            await facade.submit(CUSTOMER, request(0), "a")
        assert await facade.orders(None, None, 10) == []
    assert mes.requests == 0


async def test_a_lost_answer_is_asked_for_again(gateway: Gateway, mes: Mes) -> None:
    """The supplier had the order; the customer gets its number, and there is one."""
    mes.troubles = [lost_answer]
    async with mes.served(), gateway.open(timeout_s=5) as facade:
        standing = await facade.submit(CUSTOMER, request(), "a")
        assert standing.order.order_id == 1
        assert await mes.orders() == 1
    assert mes.requests == 2


async def test_nobody_there_is_surely_not_ordered(gateway: Gateway) -> None:
    """`failed`, and with the same key it can be tried again."""
    async with gateway.open() as facade:
        with pytest.raises(SupplierAwayError) as away:
            await facade.submit(CUSTOMER, request(), "a")
        assert not away.value.may_have_arrived
        (standing,) = await facade.orders(None, None, 10)
        assert standing.order.state is OrderState.FAILED
        assert await facade.resolve() == 0
        async with gateway.mes.served():
            again = await facade.submit(CUSTOMER, request(), "a")
            assert again.order.order_id == 1


async def test_a_supplier_that_says_nothing_leaves_it_open_until_it_is_known(
    gateway: Gateway, mes: Mes
) -> None:
    """504 to the customer; it is sent again by itself, and is one order."""
    mes.troubles = [lost_answer, lost_answer, lost_answer, lost_answer, never]
    async with mes.served(), gateway.open(timeout_s=0.4) as facade:
        with pytest.raises(SupplierError) as unknown:
            await facade.submit(CUSTOMER, request(), "a")
        assert unknown.value.may_have_arrived
        assert unknown.value.order is not None
        assert unknown.value.order.state is OrderState.FORWARDING
        mes.troubles = []
        assert await facade.resolve() == 1
        standing = await facade.standing(id_of(1, "a"), None)
        assert standing.order.state is OrderState.SENT
        assert await mes.orders() == 1


async def test_slow_is_not_away(gateway: Gateway, mes: Mes) -> None:
    """What was sent and not answered may have arrived."""
    mes.troubles = [never]
    async with mes.served(), gateway.open(timeout_s=0.3) as facade:
        with pytest.raises(SupplierSlowError) as slow:
            await facade.submit(CUSTOMER, request(), "a")
        assert slow.value.may_have_arrived


async def test_an_order_left_open_by_a_crash_is_never_called_failed(gateway: Gateway, mes: Mes) -> None:
    """Nobody knows whether it was sent before; a supplier that is away now says nothing about that."""
    mes.troubles = [never]
    async with mes.served(), gateway.open(timeout_s=0.3) as facade:
        with pytest.raises(SupplierSlowError):
            await facade.submit(CUSTOMER, request(), "a")
    async with gateway.open(timeout_s=0.3) as facade:
        with pytest.raises(SupplierAwayError) as away:
            await facade.submit(CUSTOMER, request(), "a")
        assert away.value.may_have_arrived
        assert (await facade.standing(id_of(1, "a"), None)).order.state is OrderState.FORWARDING


async def test_two_servers_with_one_order_agree_in_the_end(gateway: Gateway, mes: Mes) -> None:
    """One finds nobody at the supplier, the other one arrives a moment later: the supplier's word counts."""
    async with gateway.open() as first, gateway.open() as second:
        asking = asyncio.ensure_future(first.submit(CUSTOMER, request(), "a"))
        await asyncio.sleep(0.05)
        async with mes.served():
            standing = await second.submit(CUSTOMER, request(), "a")
        outcome = (await asyncio.gather(asking, return_exceptions=True))[0]
        assert standing.order.state is OrderState.SENT
        if isinstance(outcome, SupplierAwayError):
            assert outcome.may_have_arrived
        assert (await first.standing(standing.order.id, None)).order.state is OrderState.SENT
        assert await mes.orders() == 1


async def test_what_another_server_may_be_sending_is_left_to_it(gateway: Gateway, mes: Mes) -> None:
    """Only what has been undecided for long is sent again."""
    mes.troubles = [never]
    async with mes.served(), gateway.open(timeout_s=0.3) as facade:
        with pytest.raises(SupplierSlowError) as slow:
            await facade.submit(CUSTOMER, request(), "a")
        assert slow.value.order is not None
        assert await facade.resolve(slow.value.order.changed_at - 1) == 0
        assert await facade.resolve(slow.value.order.changed_at) == 1


async def test_while_the_supplier_is_away_one_try_is_enough(gateway: Gateway, mes: Mes) -> None:
    """The others wait for the next round."""
    mes.troubles = [never, never]
    async with mes.served(), gateway.open(timeout_s=0.3) as facade:
        for key in "ab":
            with pytest.raises(SupplierSlowError):
                await facade.submit(CUSTOMER, request(), key)
    async with gateway.open(timeout_s=0.3) as facade:
        gateway.log.rows.clear()
        assert await facade.resolve() == 0
        assert gateway.log.messages == ["Order could not be forwarded"]


async def test_a_refusal_is_relayed_and_final(gateway: Gateway, mes: Mes) -> None:
    """With the field that it is about."""
    mes.troubles = [answering(422, b'{"detail":"amount: not this week","parameter":"amount"}')]
    async with mes.served(), gateway.open() as facade:
        for _ in range(2):
            with pytest.raises(RefusedError, match="amount: not this week"):
                await facade.submit(CUSTOMER, request(), "a")
    assert mes.requests == 1


async def test_a_busy_supplier_is_asked_again(gateway: Gateway, mes: Mes) -> None:
    """503 says that it did not take it."""
    mes.troubles = [answering(503), answering(503)]
    async with mes.served(), gateway.open(timeout_s=5) as facade:
        assert (await facade.submit(CUSTOMER, request(), "a")).order.order_id == 1


@pytest.mark.parametrize("body", [b"<html>", b'{"order_id":"nine"}', b"[]", b"\xff"])
async def test_an_answer_without_sense_is_the_suppliers_fault(
    gateway: Gateway, mes: Mes, body: bytes
) -> None:
    """Nobody knows whether it has the order."""
    mes.troubles = [answering(200, body)]
    async with mes.served(), gateway.open() as facade:
        with pytest.raises(SupplierBrokenError) as broken:
            await facade.submit(CUSTOMER, request(), "a")
        assert broken.value.may_have_arrived
        assert (await facade.standing(id_of(1, "a"), None)).order.state is OrderState.FORWARDING


async def test_a_gateway_with_the_wrong_token_orders_nothing(gateway: Gateway, mes: Mes) -> None:
    """It is an ERROR: only somebody who runs the gateway can mend it."""
    async with mes.served(), gateway.open(token="another token") as facade:  # noqa: S106  # of nobody
        with pytest.raises(SupplierBrokenError, match="refused this gateway's token"):
            await facade.submit(CUSTOMER, request(), "a")
        assert await mes.orders() == 0
    assert ("ERROR", "Order could not be forwarded") in [row[:2] for row in gateway.log.rows]


async def test_more_than_may_be_under_way_are_refused_at_once(gateway: Gateway, mes: Mes) -> None:
    """And nothing of them is written down."""
    mes.troubles = [never]
    async with mes.served(), gateway.open(timeout_s=0.5, max_waiting=1) as facade:
        first = asyncio.ensure_future(facade.submit(CUSTOMER, request(), "a"))
        await asyncio.sleep(0.1)
        with pytest.raises(OverloadedError):
            await facade.submit(CUSTOMER, request(), "b")
        with pytest.raises(SupplierSlowError):
            await first
        assert len(await facade.orders(None, None, 10)) == 1


async def test_a_customer_who_hangs_up_does_not_stop_the_order(gateway: Gateway, mes: Mes) -> None:
    """It is under way, and comes to its end."""
    async with mes.served(), gateway.open() as facade:
        asking = asyncio.ensure_future(facade.submit(CUSTOMER, request(), "a"))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await facade.close()
        assert (await facade.standing(id_of(1, "a"), None)).order.state is OrderState.SENT


async def test_an_order_is_taken_back_while_it_waits(gateway: Gateway, mes: Mes) -> None:
    """Twice is as good as once."""
    async with mes.served(), gateway.open() as facade:
        standing = await facade.submit(CUSTOMER, request(), "a")
        for _ in range(2):
            cancelled = await facade.cancel(standing.order.id, CUSTOMER.name)
            assert cancelled.order.state is OrderState.CANCELLED
        assert await facade.queue(10) == []


async def test_a_cancel_whose_answer_was_lost_is_a_cancel(gateway: Gateway, mes: Mes) -> None:
    """The second try finds it done."""
    async with mes.served(), gateway.open(timeout_s=5) as facade:
        standing = await facade.submit(CUSTOMER, request(), "a")
        mes.troubles = [lost_answer]
        cancelled = await facade.cancel(standing.order.id, CUSTOMER.name)
        assert cancelled.order.state is OrderState.CANCELLED


async def test_what_is_made_already_is_not_taken_back(gateway: Gateway, mes: Mes) -> None:
    """The supplier says so."""
    async with mes.served(), gateway.open() as facade:
        standing = await facade.submit(CUSTOMER, request(), "a")
        await mes.service.set_state(1, State.IN_PRODUCTION)
        with pytest.raises(NotCancellableError):
            await facade.cancel(standing.order.id, CUSTOMER.name)
        assert (await facade.standing(standing.order.id, None)).order.state is OrderState.SENT


async def test_somebody_elses_order_is_not_there(gateway: Gateway, mes: Mes) -> None:
    """Not to be seen and not to be cancelled."""
    async with mes.served(), gateway.open() as facade:
        standing = await facade.submit(CUSTOMER, request(), "a")
        for asked in (facade.standing, facade.cancel):
            with pytest.raises(NoSuchOrderError):
                await asked(standing.order.id, "Somebody_else")


async def test_lists_do_without_the_supplier(gateway: Gateway, mes: Mes) -> None:
    """What the gateway knows is shown; how it stands is not known then."""
    async with gateway.open() as facade:
        async with mes.served():
            await facade.submit(CUSTOMER, request(), "a")
            (with_it,) = await facade.orders(CUSTOMER.name, None, 10)
        (without,) = await facade.orders(CUSTOMER.name, None, 10)
    assert with_it.placed is not None
    assert with_it.placed.state == "queued"
    assert without.placed is None
    assert without.order == with_it.order
