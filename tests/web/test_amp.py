"""The supplier over real HTTP: every answer that it gives."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
import pytest_asyncio
import structlog
from structlog.testing import capture_logs

from mes.amp.orders import Order
from mes.amp.service import AmpService
from mes.amp.states import State
from mes.amp.store import AmpStore
from orders.logs.trace import trace_of
from storage.errors import StoreBusyError
from web.amp import create_amp_app
from web.amp_bodies import MAX_BODY_BYTES
from web.server import serve_http
from web.settings import HttpSettings

Json = dict[str, object]

STAMP_MS = 1_721_857_896_590
TOKEN = "a token of this test"  # noqa: S105  # it opens nothing else
TOKEN_HEADER = {"Authorization": f"Bearer {TOKEN}"}
TRACE = "0af7651916cd43dd8448eb211c80319c"
GIVEN: Json = {
    "user_id": 1,
    "base": "Base 40mm",
    "amount": 40,
    "drilling": "3 second Drilling",
    "cleaning": "Without",
    "pressing": "Without",
    "inspection": "Complete",
}
NONSENSE = [
    b"",
    b"{",
    b"nonsense",
    b"[]",
    b"null",
    b"40",
    b"\xff\xfe",
    b'{"base": "\xff"}',
    b'{"base": "\\ud800"}',
    b"[" * 4_000,
    b'{"user_id":' * 300,
    msgspec.json.encode(GIVEN) + b"{}",
]
ROUTES = [
    ("POST", "/api/v1/orders"),
    ("GET", "/api/v1/orders?ids=1"),
    ("GET", "/api/v1/orders/1"),
    ("POST", "/api/v1/orders/1/cancel"),
    ("POST", "/api/v1/orders/1/state"),
    ("GET", "/api/v1/queue"),
]


@pytest_asyncio.fixture
async def service(tmp_path: Path) -> AsyncIterator[AmpService]:
    """Without any order, and with a clock that stands."""
    store = AmpStore(tmp_path / "mes.db")
    yield AmpService(store, now_ms=lambda: STAMP_MS)
    await store.close()


@pytest_asyncio.fixture
async def client(service: AmpService) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that shows the token unless it is told otherwise."""
    app = create_amp_app(service, TOKEN)
    async with (
        serve_http(app, HttpSettings(port=0)) as address,
        aiohttp.ClientSession(address.url, headers=TOKEN_HEADER) as session,
    ):
        yield session


async def ask(
    client: aiohttp.ClientSession,
    method: str,
    path: str,
    status: int = 200,
    body: object = None,
    **headers: str,
) -> Json:
    """The JSON answer, of that status; names of headers with `_` for `-`."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body) if body is not None else None
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.request(method, path, data=data, headers=named) as answer:
        content = await answer.read()
        assert answer.status == status, content
        assert status < 400 or answer.content_type == "application/problem+json"
        return msgspec.json.decode(content, type=dict[str, object])


async def order(
    client: aiohttp.ClientSession, key: str = "key", status: int = 201, fields: Json | None = None
) -> Json:
    """Place the given order, but for these fields."""
    body = {**GIVEN, **(fields or {})}
    return await ask(client, "POST", "/api/v1/orders", status, body, Idempotency_Key=key)


async def test_the_given_order_is_answered_as_it_was_given(client: aiohttp.ClientSession) -> None:
    """The ninth of the supplier: product 8, 40 pieces, 600; it has a place in the queue."""
    for number in range(8):
        await order(client, f"key {number}")
    assert await order(client, "the ninth") == {
        "order_id": 9,
        "user_id": 1,
        "product_id": 8,
        "amount": 40,
        "price": 600,
        "received_at": "2024-07-24T21:51:36.590Z",
        "state": "queued",
        "place": 9,
    }


async def test_a_new_order_says_where_it_is(client: aiohttp.ClientSession) -> None:
    """In `Location`; and no answer is to be kept by anybody."""
    headers = {"Idempotency-Key": "key"}
    async with client.post("/api/v1/orders", json=GIVEN, headers=headers) as answer:
        assert (answer.status, answer.headers["Cache-Control"]) == (201, "no-store")
        placed = await answer.json()
        assert await ask(client, "GET", answer.headers["Location"]) == placed


async def test_the_same_key_is_the_same_order_in_its_present_state(
    client: aiohttp.ClientSession, service: AmpService
) -> None:
    """200 and not 201, however the request was written; 422 where it is another request."""
    first = await order(client)
    await service.set_state(1, State.IN_PRODUCTION)
    turned = dict(reversed(GIVEN.items()))
    again = await ask(client, "POST", "/api/v1/orders", 200, turned, Idempotency_Key="key")
    assert again == {**first, "state": "in production"}
    problem = await order(client, status=422, fields={"amount": 41})
    assert problem["parameter"] == "Idempotency-Key"
    assert (await order(client, "another key", fields={"amount": 41}))["order_id"] == 2


async def test_requests_at_once_get_numbers_of_their_own(client: aiohttp.ClientSession) -> None:
    """Half of them are sent twice."""
    placed = await asyncio.gather(*(order(client, f"key {number}") for number in range(60)))
    again = await asyncio.gather(*(order(client, f"key {number}", 200) for number in range(30)))
    assert sorted(each["order_id"] for each in placed) == list(range(1, 61))  # type: ignore[type-var]  # numbers
    assert [each["order_id"] for each in again] == [each["order_id"] for each in placed[:30]]


@pytest.mark.parametrize("key", [None, "", " ", "x" * 65, "sch\xf6n", "tab\tin it"])
async def test_an_order_without_a_good_key_is_400(client: aiohttp.ClientSession, key: str | None) -> None:
    """1 to 64 printable ASCII characters."""
    headers = {} if key is None else {"Idempotency_Key": key}
    problem = await ask(client, "POST", "/api/v1/orders", 400, GIVEN, **headers)
    assert problem["parameter"] == "Idempotency-Key"


async def test_any_printable_key_will_do(client: aiohttp.ClientSession) -> None:
    """At its longest, and with all that can be printed."""
    for number, key in enumerate(["x" * 64, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "a b", "0"], 1):
        assert (await order(client, key))["order_id"] == number


@pytest.mark.parametrize(
    ("fields", "status", "parameter"),
    [
        ({"base": "Base 30mm"}, 422, "base"),
        ({"drilling": "With"}, 422, "drilling"),
        ({"cleaning": "with"}, 422, "cleaning"),
        ({"pressing": ""}, 422, "pressing"),
        ({"inspection": "With"}, 422, "inspection"),
        ({"inspection": "Without", "drilling": "Without Drilling"}, 422, "drilling"),
        ({"amount": 0}, 422, "amount"),
        ({"amount": -40}, 422, "amount"),
        ({"amount": 1_000_001}, 422, "amount"),
        ({"amount": 10**30}, 422, "amount"),
        ({"user_id": 0}, 422, "user_id"),
        ({"user_id": 1 << 53}, 422, "user_id"),
        ({"amount": "40"}, 400, "amount"),
        ({"amount": 40.5}, 400, "amount"),
        ({"amount": True}, 400, "amount"),
        ({"amount": None}, 400, "amount"),
        ({"user_id": []}, 400, "user_id"),
        ({"base": 40}, 400, "base"),
        ({"price": 1}, 400, "price"),
        ({"%s{0}": "x"}, 400, "%s{0}"),
    ],
)
async def test_a_wrong_order_is_refused_with_its_field(
    client: aiohttp.ClientSession, fields: Json, status: int, parameter: str
) -> None:
    """400 for what can't be read, 422 for what can't be made; its key stays free."""
    problem = await order(client, status=status, fields=fields)
    assert (problem["status"], problem["parameter"]) == (status, parameter)
    assert (await order(client))["order_id"] == 1


async def test_a_missing_field_is_400(client: aiohttp.ClientSession) -> None:
    """There are no defaults."""
    for field in GIVEN:
        body = {name: value for name, value in GIVEN.items() if name != field}
        problem = await ask(client, "POST", "/api/v1/orders", 400, body, Idempotency_Key="key")
        assert problem["parameter"] == field


async def test_what_is_not_an_order_in_json_is_400(client: aiohttp.ClientSession) -> None:
    """Never a 500."""
    for body in NONSENSE:
        await ask(client, "POST", "/api/v1/orders", 400, body, Idempotency_Key="key")


async def test_a_body_that_is_too_large_is_413(client: aiohttp.ClientSession) -> None:
    """Whether it says so or not."""
    large = b" " * MAX_BODY_BYTES + msgspec.json.encode(GIVEN)
    await ask(client, "POST", "/api/v1/orders", 413, large, Idempotency_Key="key")

    async def pieces() -> AsyncIterator[bytes]:
        for begin in range(0, len(large), 1_000):
            yield large[begin : begin + 1_000]

    headers = {"Idempotency-Key": "key"}
    async with client.post("/api/v1/orders", data=pieces(), headers=headers) as answer:
        assert (answer.status, answer.content_type) == (413, "application/problem+json")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/v1/orders", "POST"),
        ("PUT", "/api/v1/orders/1", "GET"),
        ("GET", "/api/v1/orders/1/cancel", "POST"),
        ("POST", "/api/v1/queue", "GET"),
    ],
)
async def test_a_wrong_method_is_405(
    client: aiohttp.ClientSession, method: str, path: str, allowed: str
) -> None:
    """With those that there are."""
    async with client.request(method, path) as answer:
        assert (answer.status, answer.content_type) == (405, "application/problem+json")
        assert allowed in answer.headers["Allow"]


@pytest.mark.parametrize("number", ["2", "0", "-1", "one", "1.0", "9" * 18, "9" * 30, "%2F", "%C2%B2"])
async def test_an_unknown_order_is_404(client: aiohttp.ClientSession, number: str) -> None:
    """Also one that no order can have as its number."""
    await order(client)
    for method, path, body in (
        ("GET", "", None),
        ("POST", "/cancel", None),
        ("POST", "/state", b'{"state":"done"}'),
    ):
        problem = await ask(client, method, f"/api/v1/orders/{number}{path}", 404, body)
        assert problem["parameter"] == "order_id"


async def test_unknown_paths_are_404(client: aiohttp.ClientSession) -> None:
    """In the same form; there is no description to look at either."""
    for path in ("/", "/api/v1/nonsense", "/schema", "/api/v1/orders/1/2"):
        assert (await ask(client, "GET", path, 404))["title"] == "Not Found"


async def test_orders_are_listed_by_their_numbers(client: aiohttp.ClientSession) -> None:
    """Those that there are, each once."""
    placed = [await order(client, f"key {number}") for number in range(3)]
    assert await ask(client, "GET", "/api/v1/orders?ids=3,1,99,3") == {"orders": [placed[0], placed[2]]}
    assert await ask(client, "GET", "/api/v1/orders?ids=77") == {"orders": []}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("?ids=", 400),
        ("?ids=1,,2", 400),
        ("?ids=1;2", 400),
        ("?ids=-1", 400),
        ("?ids=1,two", 400),
        (f"?ids={'9' * 19}", 400),
        (f"?ids={','.join(map(str, range(201)))}", 422),
    ],
)
async def test_a_list_that_can_not_be_read_is_refused(
    client: aiohttp.ClientSession, query: str, status: int
) -> None:
    """200 numbers at most, with commas between."""
    problem = await ask(client, "GET", f"/api/v1/orders{query}", status)
    assert problem["parameter"] == "ids"


async def test_200_orders_fit_into_one_list(client: aiohttp.ClientSession) -> None:
    """The bound itself is allowed."""
    ids = ",".join(map(str, range(1, 201)))
    assert await ask(client, "GET", f"/api/v1/orders?ids={ids}") == {"orders": []}


async def test_an_order_is_cancelled_until_production_begins(client: aiohttp.ClientSession) -> None:
    """200 with the order; 409 afterwards, saying in which state it is."""
    first, second = [await order(client, key) for key in ("one", "two")]
    cancelled = await ask(client, "POST", "/api/v1/orders/1/cancel")
    assert cancelled == {**first, "state": "cancelled", "place": None}
    assert await ask(client, "GET", "/api/v1/orders/2") == {**second, "place": 1}
    await ask(client, "POST", "/api/v1/orders/2/state", 200, {"state": "in production"})
    for number, state in ((1, "cancelled"), (2, "in production")):
        problem = await ask(client, "POST", f"/api/v1/orders/{number}/cancel", 409)
        assert state in str(problem["detail"])


async def test_states_are_set_as_the_table_allows(client: aiohttp.ClientSession) -> None:
    """200 with the order; 409 for a step that there isn't, 422 for a state that there isn't."""
    await order(client)
    path = "/api/v1/orders/1/state"
    await ask(client, "POST", path, 409, {"state": "done"})
    for state, place in (("in production", 1), ("done", None)):
        answer = await ask(client, "POST", path, 200, {"state": state})
        assert (answer["state"], answer["place"]) == (state, place)
    await ask(client, "POST", path, 409, {"state": "queued"})
    problem = await ask(client, "POST", path, 422, {"state": "%s broken"})
    assert problem["parameter"] == "state"
    assert "in production" in str(problem["detail"])
    for body in (b"", b"{}", b'{"state": 1}', b'{"state": "done", "more": 1}'):
        await ask(client, "POST", path, 400, body)


async def test_the_queue_shows_what_is_to_be_made_in_order(client: aiohttp.ClientSession) -> None:
    """Open orders with their product in words, page by page."""
    for number in range(4):
        await order(client, f"key {number}")
    await ask(client, "POST", "/api/v1/orders/1/cancel")
    page = await ask(client, "GET", "/api/v1/queue?limit=2")
    first, second = msgspec.convert(page["orders"], list[Json])
    assert (first["order_id"], first["place"]) == (2, 1)
    assert (second["order_id"], second["place"]) == (3, 2)
    assert first["product"] == "Base 40mm Drilling 3s Complete inspection Without cleaning Without pressing"
    rest = await ask(client, "GET", f"/api/v1/queue?limit=2&after={page['next']}")
    assert [entry["order_id"] for entry in msgspec.convert(rest["orders"], list[Json])] == [4]
    assert rest["next"] is None
    over = await ask(client, "GET", "/api/v1/queue?state=cancelled")
    assert [entry["order_id"] for entry in msgspec.convert(over["orders"], list[Json])] == [1]


@pytest.mark.parametrize(
    ("query", "status", "parameter"),
    [
        ("limit=0", 400, "limit"),
        ("limit=201", 400, "limit"),
        ("limit=many", 400, "limit"),
        ("after=-1", 400, "after"),
        (f"after={10**18}", 400, "after"),
        ("state=lost", 422, "state"),
    ],
)
async def test_a_queue_that_can_not_be_shown_is_refused(
    client: aiohttp.ClientSession, query: str, status: int, parameter: str
) -> None:
    """With the parameter."""
    problem = await ask(client, "GET", f"/api/v1/queue?{query}", status)
    assert problem["parameter"] == parameter


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}s",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        "Bearer \xff\xfe",
    ],
)
async def test_without_the_token_everything_is_401(client: aiohttp.ClientSession, shown: str) -> None:
    """With the way to show it; and nothing happens."""
    for method, path in ROUTES:
        async with client.request(method, path, headers={"Authorization": shown}, json=GIVEN) as answer:
            assert (answer.status, answer.content_type) == (401, "application/problem+json")
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="AMP"'
            assert TOKEN not in await answer.text()
    assert (await ask(client, "GET", "/api/v1/queue"))["orders"] == []


async def test_no_token_at_all_is_401_too(client: aiohttp.ClientSession) -> None:
    """Whereas whoever asks may know that the service lives."""
    url = str(client._base_url)
    async with aiohttp.ClientSession(url) as stranger:
        for method, path in ROUTES:
            await ask(stranger, method, path, 401)
        assert await ask(stranger, "GET", "/healthz") == {"status": "alive"}


async def test_the_scheme_is_read_in_any_case(client: aiohttp.ClientSession) -> None:
    """As RFC 9110 has it."""
    await ask(client, "GET", "/api/v1/queue", Authorization=f"bearer {TOKEN}")


async def test_every_step_is_logged_with_the_callers_trace(client: aiohttp.ClientSession) -> None:
    """Requests, refusals and steps; what the customer wrote is a value at most, never the event."""
    traceparent = f"00-{TRACE}-b7ad6b7169203331-01"
    merge = structlog.contextvars.merge_contextvars
    with capture_logs([merge]) as logs:
        for fields, status in (({}, 201), ({"base": "%s{gold}"}, 422), ({"%s{gold}": 1}, 400)):
            body = {**GIVEN, **fields}
            headers = {"Idempotency_Key": f"key {status}", "traceparent": traceparent}
            await ask(client, "POST", "/api/v1/orders", status, body, **headers)
        for path, status in (("cancel", 200), ("cancel", 409)):
            await ask(client, "POST", f"/api/v1/orders/1/{path}", status, traceparent=traceparent)
        await ask(client, "GET", "/api/v1/queue", 401, Authorization="Bearer wrong", traceparent=traceparent)
    assert [entry["event"] for entry in logs] == [
        "order_received",
        "order_queued",
        "order_refused",
        "request_refused",
        "order_cancelled",
        "order_refused",
        "caller_refused",
    ]
    assert {entry["trace_id"] for entry in logs} == {TRACE}
    assert TOKEN not in str(logs)


async def test_callers_without_a_token_fill_no_log(client: aiohttp.ClientSession) -> None:
    """Sixty lines a minute, and two minutes may share the time that this takes."""
    with capture_logs() as logs:
        for _ in range(150):
            await ask(client, "GET", "/api/v1/queue", 401, Authorization="Bearer wrong")
    refused = [entry for entry in logs if entry["event"] == "caller_refused"]
    assert 60 <= len(refused) <= 120
    assert all(entry["reason"] == "wrong token" for entry in refused)


async def test_a_request_without_a_trace_begins_one(client: aiohttp.ClientSession) -> None:
    """Each its own, the same for all its steps."""
    with capture_logs([structlog.contextvars.merge_contextvars]) as logs:
        await order(client, "one")
        await order(client, "two")
    traces = [str(entry["trace_id"]) for entry in logs]
    assert traces[0] == traces[1] != traces[2] == traces[3]
    assert all(len(trace) == 32 and int(trace, 16) for trace in traces)


@pytest.mark.parametrize(
    ("traceparent", "trace"),
    [
        (f"00-{TRACE}-b7ad6b7169203331-01", TRACE),
        (f"cc-{TRACE}-b7ad6b7169203331-01-what-comes-later", TRACE),
        (f"00-{TRACE}-b7ad6b7169203331-01-more", None),
        (f"ff-{TRACE}-b7ad6b7169203331-01", None),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-b7ad6b7169203331-01", None),
        (f"00-{TRACE}-b7ad6b7169203331", None),
        (f"00-{TRACE}-b7ad6b7169203331-01\n", None),
        ("", None),
        ("x" * 9_999, None),
    ],
)
def test_a_trace_is_read_as_w3c_has_it(traceparent: str, trace: str | None) -> None:
    """What is no traceparent is as good as none."""
    found = trace_of(traceparent)
    assert len(found) == len(TRACE)
    assert (found == TRACE) is (trace == TRACE)


async def test_a_store_that_fails_is_503_and_the_same_request_can_come_again(
    client: aiohttp.ClientSession, service: AmpService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With when to try again, and nothing of its inside."""

    async def busy(*_: object) -> Order:
        raise StoreBusyError("secret place")

    with monkeypatch.context() as broken:
        broken.setattr(service._store, "place", busy)
        headers = {"Idempotency-Key": "key"}
        async with client.post("/api/v1/orders", json=GIVEN, headers=headers) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
            assert "secret" not in await answer.text()
    assert (await order(client))["order_id"] == 1
