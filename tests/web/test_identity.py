"""Who may ask for what, over real HTTP: every route, every way to prove who one is, every way to fake it."""

from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest
import pytest_asyncio
from litestar import Litestar
from litestar.routes import HTTPRoute

from orders.accounts.base import Token
from orders.accounts.credentials import digest_of, new_token
from orders.permissions import ROLES, Permission
from storage.errors import StoreUnavailableError
from tests.web.desk import CUSTOMER, JSON, ORDER, ORDERS, PASSWORD, SESSION, Desk
from tests.web.shop import Shop, record
from web.identity import COOKIE

OPEN: Final = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/login"),
    ("POST", SESSION),
    ("DELETE", SESSION),
    ("GET", "/schema"),
    ("GET", "/schema/openapi.json"),
    ("GET", "/schema/{path}"),
    ("GET", "/static/..."),
}
"""Who asks for these needs no login. Whatever is not here does."""

KNOWN_ONLY: Final = {("GET", SESSION), ("GET", "/"), ("GET", "/order")}
"""Any login will do: who asks, the way to the first page that one may see, the form that says who may not."""

ADMIN: Final = "Administrator"
NOBODY: Final = "Nobody_in_particular"


@pytest_asyncio.fixture
async def desk(desk: Desk) -> AsyncIterator[Desk]:
    """Served, with a customer, an administrator and somebody whose role is not known any more."""
    desk.shop.send(record("E0001"))
    await desk.counter.add_user(CUSTOMER, "customer", password=PASSWORD)
    await desk.counter.add_user(ADMIN, "administrator", password=PASSWORD)
    await desk.counter.accounts.add_user(NOBODY, None, ("nothing",), 0)
    async with desk.open():
        yield desk


async def _routes(desk: Desk) -> list[tuple[str, str]]:
    """Method and path of every route of the application."""
    async with desk.counter.open() as office:
        return sorted(set(_walk(desk.shop.app(office))))


def _walk(app: Litestar) -> Iterator[tuple[str, str]]:
    for route in app.routes:
        path = route.path_format
        if path.startswith("/static/"):
            path = "/static/..."
        methods = route.methods if isinstance(route, HTTPRoute) else {"GET"}
        yield from ((method, path) for method in methods if method not in {"OPTIONS", "HEAD"})


def _real(path: str) -> str:
    """A path that leads somewhere."""
    return path.replace("{device_id}", "E0001").replace("{order}", "0" * 32)


async def test_every_route_but_the_open_ones_asks_who_it_is(desk: Desk) -> None:
    """Programs are told 401 and how; people are sent to the way in."""
    guarded = [route for route in await _routes(desk) if route not in OPEN]
    assert len(guarded) > 20
    for method, path in guarded:
        answer = await desk.ask(method, _real(path))
        if path.startswith("/api/"):
            assert answer.status == 401, (method, path)
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Headrace"'
            page = await desk.ask(method, _real(path), {"Accept": "text/html"})
            assert page.status == 401
        else:
            there = (answer.status, answer.headers.get("Location"))
            assert there == (303, f"/login?next={_real(path)}"), (method, path)


async def test_every_route_asks_for_a_permission(desk: Desk) -> None:
    """A login without any is not enough, but where that is listed."""
    token = await desk.token(NOBODY)
    for method, path in await _routes(desk):
        if (method, path) not in OPEN | KNOWN_ONLY:
            assert (await desk.ask(method, _real(path), token)).status == 403, (method, path)
    assert (await desk.ask("GET", "/", token)).status == 403
    assert (await desk.ask("GET", SESSION, token)).body["permissions"] == []


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_opens_what_is_its_own(desk: Desk, role: str) -> None:
    """And nothing else: telemetry, orders, queue and log each have their permission."""
    await desk.counter.add_user("Somebody", role)
    token = await desk.token("Somebody")
    for permission, paths in _PATHS.items():
        for path in paths:
            answer = await desk.ask("GET", path, token)
            assert (answer.status == 403) is (permission not in ROLES[role]), (path, answer.status)


_PATHS: Final = {
    Permission.TELEMETRY_READ: ["/api/v1/devices", "/api/v1/rejects", "/api/v1/ledger", "/connections"],
    Permission.ORDERS_READ_ALL: ["/api/v1/queue", "/api/v1/orders?all=true", "/queue"],
    Permission.LOGS_READ: ["/api/v1/logs", "/logs"],
}


async def test_what_is_open_is_known(desk: Desk) -> None:
    """Nothing is listed as open, or as open to any login, that there is not."""
    assert set(await _routes(desk)) >= OPEN | KNOWN_ONLY


async def test_a_token_is_worth_something_until_it_is_revoked(desk: Desk) -> None:
    """At once, without waiting for anything."""
    token = await desk.token()
    assert (await desk.ask("GET", SESSION, token)).body["name"] == CUSTOMER
    (row,) = await desk.counter.accounts.tokens()
    await desk.counter.manager.revoke_token(row.id)
    answer = await desk.ask("GET", SESSION, token)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Headrace", error="invalid_token"'
    (said,) = await desk.rows("Connection attempt failed")
    assert said.additional_info["reason"] == "Token revoked"


async def test_a_token_ends_with_its_last_day(desk: Desk) -> None:
    """However good it was."""
    id_, text = new_token()
    desk.secrets.add(text)
    token = Token(id=id_, user=CUSTOMER, label="old", digest=digest_of(text), created_at=0, expires_at=1)
    await desk.counter.accounts.add_token(token)
    assert (await desk.ask("GET", SESSION, {"Authorization": f"Bearer {text}"})).status == 401
    (said,) = await desk.rows("Connection attempt failed")
    assert (said.user_id, said.additional_info["reason"]) == (CUSTOMER, "Token expired")


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic RmFjdG9yeTpwYXNzd29yZA==",
        "Bearer hrt_000000000000_" + "0" * 64,
        "Bearer hrt_000000000000_" + "0" * 63 + "\u00e9",
        "Bearer " + "x" * 10_000,
        "Bearer hrt_%s_%s",
        "bearer\thrt",
        "Bearer a b c",
    ],
)
async def test_what_is_no_token_is_401(desk: Desk, shown: str) -> None:
    """Not 500; also beside a session that is good, and on routes that are open."""
    login = await desk.log_in()
    for path in (SESSION, "/api/v1/devices", "/healthz"):
        answer = await desk.ask("GET", path, {**login.cookie, "Authorization": shown})
        assert answer.status == 401, path
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="Headrace", error=')


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        ";;;===",
        COOKIE,
        f"{COOKIE}=",
        f"{COOKIE}=\u00ff\u00fe",
        f'{COOKIE}="\\',
        f"{COOKIE}=" + "0" * 64,
        f"{COOKIE}=" + "g" * 64,
        f"{COOKIE}=" + "x" * 10_000,
        f'{COOKIE}="' + "\\" * 10_000,
        "other=" + ";" * 10_000,
        f"$Version=1; {COOKIE}=1; $Path=/",
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_is_no_cookie_is_401(desk: Desk, cookie: str) -> None:
    """Not 500, however long it is."""
    assert (await desk.ask("GET", SESSION, {"Cookie": cookie})).status == 401


async def test_two_sessions_are_none(desk: Desk) -> None:
    """Whoever can set a cookie for the host can't put theirs before ours; other cookies don't matter."""
    mine, theirs = await desk.log_in(), await desk.log_in(ADMIN)
    both = f"{COOKIE}={mine.secret}; {COOKIE}={theirs.secret}"
    assert (await desk.ask("GET", SESSION, {"Cookie": both})).status == 401
    beside = f'a[b]="c d; {COOKIE}={mine.secret};e'
    assert (await desk.ask("GET", SESSION, {"Cookie": beside})).body["name"] == CUSTOMER


_FOREIGN: Final = [
    {"Origin": "http://evil.example"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "null"},
    {"Origin": "http://["},
    {"Origin": ""},
    {"Origin": "\u00ff"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "nonsense"},
]


@pytest.mark.parametrize("foreign", _FOREIGN, ids=str)
async def test_a_foreign_page_changes_nothing(desk: Desk, foreign: dict[str, str]) -> None:
    """Though it had cookie and proof; it can't even log somebody in, or out."""
    login = await desk.log_in()
    assert (await desk.ask("POST", ORDERS, {**login.page, **foreign}, json=ORDER)).status == 403
    assert (await desk.ask("DELETE", SESSION, {**login.page, **foreign})).status == 403
    answer = await desk.try_to_log_in(headers=foreign)
    assert (answer.status, COOKIE in answer.cookies) == (403, False)
    assert (await desk.ask("GET", SESSION, login.cookie)).status == 200
    assert await desk.counter.book.undecided() == []


async def test_our_own_pages_may(desk: Desk) -> None:
    """With what a browser says of them, behind a proxy that speaks HTTPS too."""
    login = await desk.log_in()
    own = {"Host": "localhost:9480", "Sec-Fetch-Site": "same-origin"}
    for origin in ("http://localhost:9480", "https://localhost:9480"):
        headers = {**login.page, **own, "Origin": origin}
        assert (await desk.ask("POST", ORDERS, headers, json=ORDER)).status == 503  # there is no supplier


@pytest.mark.parametrize("foreign", _FOREIGN, ids=str)
async def test_a_server_without_login_is_not_open_to_foreign_pages(
    shop: Shop, foreign: dict[str, str]
) -> None:
    """They would come from the browser of somebody who may reach it."""
    desk = Desk(shop, login=False)
    async with desk.open():
        assert (await desk.ask("POST", ORDERS, foreign, json=ORDER)).status == 403
        assert (await desk.ask("POST", ORDERS, json=ORDER)).status == 503


async def test_a_session_changes_nothing_without_its_proof(desk: Desk) -> None:
    """None, a wrong one, that of another session: 403, and what it reads is as before."""
    login, other = await desk.log_in(), await desk.log_in()
    wrong = ["", "0" * 64, other.csrf, login.csrf[:-1], login.csrf.upper(), "\u00ff" * 64, login.secret]
    for headers in ({}, *({"X-CSRF-Token": proof} for proof in wrong)):
        answer = await desk.ask("POST", ORDERS, {**login.cookie, **headers}, json=ORDER)
        assert answer.status == 403, headers
        assert answer.body["detail"].startswith("X-CSRF-Token:")
        assert (await desk.ask("DELETE", SESSION, {**login.cookie, **headers})).status == 403
    assert (await desk.ask("GET", ORDERS, login.cookie)).body["orders"] == []
    assert (await desk.ask("POST", ORDERS, login.page, json=ORDER)).status == 503


async def test_a_program_needs_no_proof(desk: Desk) -> None:
    """No browser sends a token by itself."""
    assert (await desk.ask("POST", ORDERS, await desk.token(), json=ORDER)).status == 503


async def test_reading_changes_nothing(desk: Desk) -> None:
    """Every GET there is, by somebody who may do everything, leaves accounts, orders and supplier alone."""
    token = await desk.token(ADMIN)
    await desk.ask("POST", ORDERS, token, json=ORDER)
    before = await _state(desk)
    for method, path in await _routes(desk):
        if method == "GET" and path not in {
            "/api/v1/live",
            "/api/v1/stream",
            "/static/...",
            "/schema/{path}",
        }:
            assert (await desk.ask("GET", _real(path), token, json=ORDER)).status in _ANSWERED, path
            assert (await desk.ask("GET", f"{_real(path)}?_method=POST", token)).status in _ANSWERED, path
    assert await _state(desk) == before


_ANSWERED: Final = {200, 303, 404, 503}
"""503: nobody is at the supplier's."""


async def _state(desk: Desk) -> object:
    accounts = desk.counter.accounts
    orders = await desk.counter.book.orders(None, None, 100)
    return orders, await accounts.users(), await accounts.tokens(), dict(accounts._sessions)


@pytest.mark.parametrize(
    "header", ["X-HTTP-Method-Override", "X-Original-URL", "X-Forwarded-For", "Forwarded"]
)
async def test_what_a_proxy_might_say_is_not_believed(desk: Desk, header: str) -> None:
    """Not the method, not the path, not the address: lockouts are by who really connects."""
    answer = await desk.ask("GET", SESSION, {**await desk.token(), header: "DELETE /api/v1/orders 10.0.0.1"})
    assert (answer.status, answer.body["name"]) == (200, CUSTOMER)
    await desk.try_to_log_in(password="a wrong password", headers={header: "10.9.9.9"})  # noqa: S106  # of nobody
    (row,) = await desk.rows("Connection attempt failed")
    assert row.additional_info["address"] == "127.0.0.1"


async def test_no_foreign_page_may_read(desk: Desk) -> None:
    """No answer allows another origin anything, asked for or not."""
    ask = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    for method in ("GET", "OPTIONS"):
        for path in (SESSION, ORDERS, "/healthz", "/login"):
            answer = await desk.ask(method, path, ask)
            assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


async def test_a_refusal_says_who_and_what_in_the_log(desk: Desk) -> None:
    """And in words of ours: what they sent stays out of it."""
    token = await desk.token()
    path = "/api/v1/logs?text=" + PASSWORD.replace(" ", "%20")
    assert (await desk.ask("GET", path, {**token, **JSON})).status == 403
    (row,) = await desk.rows("Request was refused")
    assert (row.user_id, row.additional_info["path"]) == (CUSTOMER, "/api/v1/logs")


async def test_where_accounts_can_not_be_read_nobody_is_let_in(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, for sessions, tokens and logins alike; what needs nobody to be known is answered."""
    login, token = await desk.log_in(), await desk.token(ADMIN)

    async def away(*_: object) -> None:
        raise StoreUnavailableError("the disk is away")

    for name in ("user", "session", "token"):
        monkeypatch.setattr(desk.counter.accounts, name, away)
    for headers in (login.cookie, token):
        answer = await desk.ask("GET", ORDERS, headers)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        assert "disk" not in str(answer.body)
    assert (await desk.try_to_log_in()).status == 503
    assert (await desk.ask("GET", "/logs", {**login.cookie, "Accept": "text/html"})).status == 503
    assert (await desk.ask("GET", "/healthz")).status == 200
