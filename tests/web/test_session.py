"""Logging in and out over real HTTP."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orders.logs.base import Level
from tests.web.desk import CUSTOMER, JSON, PASSWORD, SESSION, Desk
from tests.web.shop import Shop
from web.identity import COOKIE


@pytest_asyncio.fixture
async def desk(desk: Desk) -> AsyncIterator[Desk]:
    """Served, with one customer."""
    await desk.counter.add_user(CUSTOMER, "customer", password=PASSWORD)
    async with desk.open():
        yield desk


async def test_a_login_is_a_cookie_that_scripts_and_foreign_pages_have_nothing_of(desk: Desk) -> None:
    """HttpOnly, SameSite=Strict, for this host and as long as the login; nothing keeps the answer."""
    answer = await desk.try_to_log_in()
    assert answer.status == 200
    assert (answer.body["name"], answer.body["permissions"]) == (CUSTOMER, ["orders:submit"])
    cookie = answer.cookie
    assert (cookie["httponly"], cookie["samesite"].lower(), cookie["secure"]) == (True, "strict", "")
    assert (cookie["path"], cookie["domain"], cookie["max-age"]) == ("/", "", "3600")
    assert answer.headers["Cache-Control"] == "no-store"
    assert cookie.value not in str(answer.body)
    (row,) = await desk.rows("Factory model customer login completed successfully")
    assert (row.level, row.user_id, row.source_component) == (Level.INFO, CUSTOMER, "Authentication")


async def test_behind_https_the_cookie_never_goes_without(shop: Shop) -> None:
    """Secure, under a name that no other host and no plain connection can set."""
    desk = Desk(shop)
    await desk.counter.add_user(CUSTOMER, "customer", password=PASSWORD)
    async with desk.open(https=True):
        cookie = (await desk.try_to_log_in()).cookies["__Host-headrace_session"]
        assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")
        mine = {"Cookie": f"{cookie.key}={cookie.value}"}
        assert (await desk.ask("GET", SESSION, mine)).body["name"] == CUSTOMER
        assert (await desk.ask("GET", SESSION, {"Cookie": f"{COOKIE}={cookie.value}"})).status == 401


@pytest.mark.parametrize("name", [CUSTOMER, "Nobody", "<no name at all>", "x" * 64])
async def test_what_is_wrong_about_a_login_is_not_said(desk: Desk, name: str) -> None:
    """The same answer for a wrong password and for a name that nobody has."""
    answer = await desk.try_to_log_in(name, "not the password of anybody")
    assert answer.status == 401
    assert answer.body["detail"] == "name or password is wrong"
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Headrace"'
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert COOKIE not in answer.cookies
    (row,) = await desk.rows("Connection attempt failed")
    assert (row.level, row.additional_info["reason"]) == (Level.WARN, "Invalid credentials")
    assert row.user_id == (name if name.isidentifier() else "")


async def test_who_guesses_has_to_wait(desk: Desk) -> None:
    """429 with Retry-After, also for the right password; another name is not locked."""
    await desk.counter.add_user("Other", "customer", password=PASSWORD)
    for attempt in range(5):
        assert (await desk.try_to_log_in(password=f"a guess with number {attempt}")).status == 401
    answer = await desk.try_to_log_in()
    assert answer.status == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 300
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (await desk.try_to_log_in("Other")).status == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 400),
        (b"null", 400),
        (b"[]", 400),
        (b'"text"', 400),
        (b"\xff\xfe", 400),
        (b"[" * 50_000, 400),
        (b'{"name": "Factory_model_customer"}', 400),
        (b'{"name": "Factory_model_customer", "password": 1}', 400),
        (b'{"name": ["Factory_model_customer"], "password": "x"}', 400),
        (b'{"name": "", "password": "x"}', 400),
        (b'{"name": "%b", "password": "x"}' % (b"n" * 65), 400),
        (b'{"name": "n", "password": "%b"}' % (b"p" * 257), 400),
        (b'{"name": "n", "password": "x", "role": "administrator"}', 400),
        (b'{"name": "n", "password": "\\ud800"}', 400),
        (b'{"name": "n", "password": "%b"}' % (b"p" * 70_000), 413),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_what_is_no_login_is_refused(desk: Desk, body: bytes, status: int) -> None:
    """With a problem, and before any password is looked at."""
    answer = await desk.ask("POST", SESSION, JSON, data=body)
    assert answer.status == status
    assert answer.body["status"] == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert not [row for row in await desk.all_rows() if row.message == "Connection attempt failed"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"])
async def test_a_login_says_that_it_is_json(desk: Desk, kind: str) -> None:
    """What a plain form could send is refused."""
    body = b'{"name": "Factory_model_customer", "password": "%b"}' % PASSWORD.encode()
    answer = await desk.ask("POST", SESSION, {"Content-Type": kind}, data=body)
    assert (answer.status, answer.body["status"]) == (415, 415)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD", "TRACE"])
async def test_other_methods_are_answered_with_those_that_there_are(desk: Desk, method: str) -> None:
    """405 and Allow."""
    answer = await desk.ask(method, SESSION)
    assert answer.status == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "POST", "DELETE", "OPTIONS"}


async def test_after_logging_out_the_cookie_is_worth_nothing(desk: Desk) -> None:
    """To whoever kept it, too; the browser is told to forget it."""
    login = await desk.log_in()
    assert (await desk.ask("GET", SESSION, login.cookie)).body["csrf"] == login.csrf
    answer = await desk.ask("DELETE", SESSION, login.page)
    assert (answer.status, answer.cookie.value, answer.cookie["max-age"]) == (204, "", "0")
    assert (await desk.ask("GET", SESSION, login.cookie)).status == 401
    assert (await desk.ask("DELETE", SESSION, login.page)).status == 204


async def test_each_login_is_a_session_of_its_own(desk: Desk) -> None:
    """With its own proof; one that is brought along is never taken over."""
    first = await desk.log_in()
    chosen = {"Cookie": f"{COOKIE}={'0' * 64}"}
    answer = await desk.try_to_log_in(headers=chosen)
    assert answer.cookie.value not in (first.secret, "0" * 64)
    assert answer.body["csrf"] != first.csrf
    assert (await desk.ask("GET", SESSION, chosen)).status == 401
    assert (await desk.ask("GET", SESSION, first.cookie)).status == 200


async def test_another_password_ends_all_sessions(desk: Desk) -> None:
    """At once; the new one lets in."""
    logins = [await desk.log_in(), await desk.log_in()]
    fresh = "another password of tests"
    await desk.counter.manager.set_password(CUSTOMER, fresh)
    assert [(await desk.ask("GET", SESSION, login.cookie)).status for login in logins] == [401, 401]
    assert (await desk.try_to_log_in()).status == 401
    await desk.log_in(password=fresh)


async def test_a_session_ends_when_its_time_is_over(desk: Desk) -> None:
    """Whatever the browser makes of Max-Age."""
    assert (await desk.ask("GET", SESSION, (await desk.session_until(1 << 60)).cookie)).status == 200
    assert (await desk.ask("GET", SESSION, (await desk.session_until(1)).cookie)).status == 401


async def test_who_is_inactive_is_nobody(desk: Desk) -> None:
    """No login, no session, no token; and active again, no old session either."""
    login, token = await desk.log_in(), await desk.token()
    await desk.counter.manager.deactivate(CUSTOMER)
    assert (await desk.ask("GET", SESSION, login.cookie)).status == 401
    assert (await desk.ask("GET", SESSION, token)).status == 401
    assert (await desk.try_to_log_in()).status == 401
    await desk.counter.manager.activate(CUSTOMER)
    assert (await desk.ask("GET", SESSION, login.cookie)).status == 401
    assert (await desk.ask("GET", SESSION, token)).status == 200


async def test_without_login_there_is_nothing_to_log_into(shop: Shop) -> None:
    """409; and who asks is everybody."""
    desk = Desk(shop, login=False)
    async with desk.open():
        assert (await desk.try_to_log_in()).status == 409
        who = await desk.ask("GET", SESSION)
        assert (who.body["name"], who.body["csrf"]) == ("everybody", None)
