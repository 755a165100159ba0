"""The order API over real HTTP, with the product's own MES behind it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from orders.book.base import Order
from orders.logs.base import Level, LogQuery, LogRow
from orders.settings import OrderSettings
from storage.errors import StoreUnavailableError
from tests.orders.supplier_side import TOKEN as MES_TOKEN
from tests.orders.supplier_side import Mes, answering, in_pieces, never
from tests.web.counter import Counter
from tests.web.shop import Shop, until
from web.server import Address

ORDER: dict[str, object] = {
    "base": "Base 40mm",
    "amount": 40,
    "drilling": "3 second Drilling",
    "cleaning": "Without",
    "pressing": "Without",
    "inspection": "Complete",
}
CUSTOMER = "Factory_model_customer"
EVER = 1 << 60


@pytest_asyncio.fixture
async def mes(tmp_path: Path) -> AsyncIterator[Mes]:
    """The supplier's side."""
    mes = Mes(tmp_path)
    async with mes.served():
        yield mes
    await mes.store.close()


@pytest.fixture
def counter(mes: Mes) -> Counter:
    """Where orders are taken."""
    settings = OrderSettings(timeout_s=3, max_waiting=2)
    return Counter(mes_url=mes.url, settings=settings, mes_token=MES_TOKEN)


@pytest_asyncio.fixture
async def address(counter: Counter, shop: Shop) -> AsyncIterator[Address]:
    """Where it is served."""
    async with shop.serve(counter=counter) as address:
        yield address


class Caller:
    """A program with a token."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def post(self, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and body; underscores in names of headers are dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.post(path, json=body, headers=named) as answer:
            return answer.status, await answer.json(content_type=None)

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        async with self.session.get(path) as answer:
            return answer.status, await answer.json(content_type=None)


@pytest_asyncio.fixture
async def customer(counter: Counter, address: Address) -> AsyncIterator[Caller]:
    """May order."""
    async with _calling(counter, address, CUSTOMER, "customer") as caller:
        yield caller


@pytest_asyncio.fixture
async def manager(counter: Counter, address: Address, customer: Caller) -> AsyncIterator[Caller]:
    """May see all orders, and order nothing."""
    del customer  # who gets the first id
    async with _calling(counter, address, "Manager", "manager") as caller:
        yield caller


@asynccontextmanager
async def _calling(counter: Counter, address: Address, name: str, role: str) -> AsyncIterator[Caller]:
    """A user with a token, and a client that shows it."""
    await counter.add_user(name, role)
    headers = {"Authorization": f"Bearer {await counter.token(name)}"}
    async with aiohttp.ClientSession(address.url, headers=headers) as session:
        yield Caller(session)


async def _rows(counter: Counter) -> list[LogRow]:
    return (await counter.logs.query(LogQuery(start=0, end=EVER), 500)).rows


async def test_an_order_is_sent_and_the_answer_is_relayed(customer: Caller) -> None:
    """Number, price and place come from the supplier."""
    status, body = await customer.post("/api/v1/orders", ORDER)
    assert status == 200
    assert body["message"] == "order sent to the supplier"
    order = body["order"]
    assert (order["order_id"], order["product_id"], order["price"], order["place"]) == (1, 8, 600, 1)
    assert (order["state"], order["supplier_state"], order["user"]) == ("sent", "queued", CUSTOMER)


async def test_who_is_not_known_is_told_how(address: Address) -> None:
    """401 with WWW-Authenticate, whatever they sent."""
    async with aiohttp.ClientSession(address.url) as session:
        for body in (ORDER, {"nonsense": 1}):
            async with session.post("/api/v1/orders", json=body) as answer:
                assert answer.status == 401
                assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Headrace"'
                assert answer.content_type == "application/problem+json"


async def test_who_lacks_the_permission_is_told_so(manager: Caller, mes: Mes) -> None:
    """403 in the words of the facts, and nothing is ordered."""
    status, body = await manager.post("/api/v1/orders", ORDER)
    assert status == 403
    assert body["detail"] == "Request submission failed due to lack of user permission"
    assert await mes.orders() == 0


@pytest.mark.parametrize(
    ("change", "status", "parameter"),
    [
        ({"amount": 0}, 422, "amount"),
        ({"amount": 10**30}, 422, "amount"),
        ({"amount": "40"}, 400, "amount"),
        ({"amount": 1.5}, 400, "amount"),
        ({"base": "Base 30mm"}, 422, "base"),
        ({"drilling": None}, 400, "drilling"),
        ({"extra": 1}, 400, None),
        ({"drilling": "Without Drilling", "inspection": "Without"}, 422, "inspection"),
    ],
)
async def test_what_is_no_order_is_refused(
    customer: Caller, mes: Mes, change: dict[str, object], status: int, parameter: str | None
) -> None:
    """With the field and the reason, and nothing is ordered."""
    answered, body = await customer.post("/api/v1/orders", {**ORDER, **change})
    assert answered == status
    if parameter is not None:
        assert body["parameter"] == parameter
    assert body["status"] == status
    assert await mes.orders() == 0
    assert mes.requests == 0


async def test_a_body_must_be_json_and_say_so(customer: Caller) -> None:
    """A plain form of a foreign page can't."""
    async with customer.session.post("/api/v1/orders", data=b"{}") as answer:
        assert answer.status == 415
    async with customer.session.post(
        "/api/v1/orders", data=b"{", headers={"Content-Type": "application/json"}
    ) as answer:
        assert answer.status == 400
    async with customer.session.post("/api/v1/orders", json={"base": "x" * 100_000}) as answer:
        assert answer.status == 413


async def test_the_same_key_is_the_same_order(customer: Caller, mes: Mes) -> None:
    """And another order with it is refused."""
    first = await customer.post("/api/v1/orders", ORDER, Idempotency_Key="a")
    again = await customer.post("/api/v1/orders", ORDER, Idempotency_Key="a")
    assert first == again
    status, body = await customer.post("/api/v1/orders", {**ORDER, "amount": 1}, Idempotency_Key="a")
    assert status == 422
    assert body["detail"].startswith("Idempotency-Key:")
    status, _ = await customer.post("/api/v1/orders", ORDER, Idempotency_Key="k" * 65)
    assert status == 400
    assert await mes.orders() == 1


async def test_without_a_key_each_request_is_an_order(customer: Caller, mes: Mes) -> None:
    """As it always was with HTTP."""
    for _ in range(2):
        assert (await customer.post("/api/v1/orders", ORDER))[0] == 200
    assert await mes.orders() == 2


async def test_nobody_at_the_supplier_is_503(customer: Caller, mes: Mes) -> None:
    """And it is said that nothing was ordered."""
    mes.troubles = [answering(503)] * 10
    status, body = await customer.post("/api/v1/orders", ORDER)
    assert status == 503
    assert body["detail"].endswith("nothing was ordered; try again later")
    assert body["state"] == "failed"
    assert (await customer.get(f"/api/v1/orders/{body['order']}"))[1]["state"] == "failed"


async def test_a_supplier_that_says_nothing_is_504(customer: Caller, mes: Mes) -> None:
    """And it is said that nobody knows yet; the order can be looked at."""
    mes.troubles = [never]
    status, body = await customer.post("/api/v1/orders", ORDER)
    assert status == 504
    assert "it is not known yet whether the supplier has the order" in body["detail"]
    assert body["state"] == "forwarding"


async def test_a_book_that_can_not_be_written_is_503(
    customer: Caller, counter: Counter, mes: Mes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said what makes another try one order; nothing was sent."""

    async def fail(order: Order) -> Order:
        raise StoreUnavailableError(order.id)

    monkeypatch.setattr(counter.book, "add", fail)
    status, body = await customer.post("/api/v1/orders", ORDER, Idempotency_Key="a")
    assert status == 503
    assert "the same Idempotency-Key" in body["detail"]
    assert mes.requests == 0


async def test_a_supplier_that_makes_no_sense_is_502(customer: Caller, mes: Mes) -> None:
    """Whatever it was that it said stays here."""
    mes.troubles = [answering(200, b"<html>secret</html>")]
    status, body = await customer.post("/api/v1/orders", ORDER)
    assert status == 502
    assert "secret" not in str(body)


async def test_an_answer_of_the_supplier_may_come_in_pieces(customer: Caller, mes: Mes) -> None:
    """As over any network."""
    mes.troubles = [in_pieces]
    status, body = await customer.post("/api/v1/orders", ORDER)
    assert (status, body["order"]["state"], body["order"]["price"]) == (200, "sent", 600)


async def test_too_many_orders_at_once_are_503_at_once(customer: Caller, mes: Mes) -> None:
    """Not a timeout."""
    mes.troubles = [never, never]
    orders = [customer.post("/api/v1/orders", {**ORDER, "amount": n}) for n in range(1, 8)]
    statuses = sorted(status for status, _ in await asyncio.gather(*orders))
    assert statuses == [503] * 5 + [504] * 2


async def test_a_full_gateway_refuses_before_it_looks_who_asks(
    customer: Caller, address: Address, mes: Mes, counter: Counter
) -> None:
    """Whoever it is; everything else is answered as ever, and the log knows of it."""
    mes.troubles = [never, never]
    under_way = [
        asyncio.ensure_future(customer.post("/api/v1/orders", {**ORDER, "amount": n})) for n in (1, 2)
    ]
    await until(lambda: not mes.troubles)
    async with (
        aiohttp.ClientSession(address.url) as stranger,
        stranger.post("/api/v1/orders", json=ORDER) as answer,
    ):
        assert answer.status == 503
        assert answer.content_type == "application/problem+json"
        assert "this request ordered nothing" in (await answer.json(content_type=None))["detail"]
    assert (await customer.get("/api/v1/orders"))[0] == 200
    assert [status for status, _ in await asyncio.gather(*under_way)] == [504, 504]
    assert (await customer.post("/api/v1/orders", ORDER))[0] == 200

    async def told() -> bool:
        return "503" in [row.additional_info.get("status") for row in await _rows(counter)]

    await until(told)


async def test_customers_see_their_own_orders(
    customer: Caller, manager: Caller, counter: Counter, address: Address
) -> None:
    """Managers see all; another customer does not even learn that there is one."""
    _, body = await customer.post("/api/v1/orders", ORDER)
    id_ = body["order"]["id"]
    assert [one["id"] for one in (await customer.get("/api/v1/orders"))[1]["orders"]] == [id_]
    assert [one["id"] for one in (await manager.get("/api/v1/orders?all=true"))[1]["orders"]] == [id_]
    assert (await manager.get(f"/api/v1/orders/{id_}"))[0] == 200
    assert (await customer.get("/api/v1/orders?all=true"))[0] == 403
    async with _calling(counter, address, "Other_customer", "customer") as other:
        assert (await other.get("/api/v1/orders"))[1]["orders"] == []
        assert (await other.get(f"/api/v1/orders/{id_}"))[0] == 404
        assert (await other.post(f"/api/v1/orders/{id_}/cancel"))[0] == 404


async def test_lists_come_in_pages(customer: Caller) -> None:
    """Followed by their links, each order once."""
    for amount in range(1, 6):
        await customer.post("/api/v1/orders", {**ORDER, "amount": amount})
    amounts, path = [], "/api/v1/orders?limit=2"
    while path:
        _, page = await customer.get(path)
        amounts += [order["amount"] for order in page["orders"]]
        path = page["next"]
    assert amounts == [5, 4, 3, 2, 1]


async def test_an_order_is_taken_back(customer: Caller, manager: Caller) -> None:
    """Then it stands in the queue no more."""
    _, body = await customer.post("/api/v1/orders", ORDER)
    assert [one["order_id"] for one in (await manager.get("/api/v1/queue"))[1]["orders"]] == [1]
    status, order = await customer.post(f"/api/v1/orders/{body['order']['id']}/cancel")
    assert (status, order["state"], order["supplier_state"]) == (200, "cancelled", "cancelled")
    assert (await manager.get("/api/v1/queue"))[1]["orders"] == []
    assert (await customer.get("/api/v1/queue"))[0] == 403


async def test_one_trace_runs_through_all_rows(customer: Caller, counter: Counter) -> None:
    """The one that the caller gave."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    await customer.post("/api/v1/orders", ORDER, traceparent=f"00-{trace}-00f067aa0ba902b7-01")

    async def all_are_there() -> bool:
        return len(await _rows(counter)) == 3

    await until(all_are_there)
    rows = await _rows(counter)
    assert {row.additional_info["trace_id"] for row in rows} == {trace}
    assert {(row.user_id, row.source_component, row.source_file) for row in rows} == {
        (CUSTOMER, "CustomerOrder", "AmpFacadeAPI")
    }


async def test_what_is_refused_is_a_row_of_the_log(
    customer: Caller, manager: Caller, counter: Counter
) -> None:
    """With who, what and why; a text of theirs can't forge another row."""
    await manager.post("/api/v1/orders", ORDER)
    await customer.post("/api/v1/orders", {**ORDER, "base": "x\r\nFATAL \x1b[31mforged"})

    async def all_are_there() -> bool:
        return len(await _rows(counter)) == 2

    await until(all_are_there)
    invalid, forbidden = await _rows(counter)
    assert (forbidden.level, forbidden.user_id, forbidden.additional_info["status"]) == (
        Level.WARN,
        "Manager",
        "403",
    )
    assert (invalid.level, invalid.user_id, invalid.additional_info["status"]) == (
        Level.WARN,
        CUSTOMER,
        "422",
    )
    assert not {"\n", "\r", "\x1b"} & set(str(invalid))
