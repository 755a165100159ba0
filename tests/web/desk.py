"""A served shop where people log in, with all that must never be seen of them: passwords, tokens, sessions.

Whatever a test sends as one of these is noted, and looked for in the log's rows and in what the process
wrote, when the test is over.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http.cookies import Morsel, SimpleCookie
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec

from orders.accounts.base import Session
from orders.accounts.credentials import digest_of, new_secret
from orders.accounts.passwords import Passwords
from orders.logs.base import LogQuery, LogRow
from storage.live import LiveFeed
from tests.orders.accounts.acting import CHEAP
from tests.web.counter import Counter
from tests.web.shop import Shop, until
from web.identity import COOKIE
from web.server import Address
from web.settings import HttpLimits

CUSTOMER: Final = "Factory_model_customer"
PASSWORD: Final = "a password of tests only"  # noqa: S105  # of nobody
SESSION: Final = "/api/v1/session"
ORDERS: Final = "/api/v1/orders"
ORDER: Final[dict[str, object]] = {
    "base": "Base 40mm",
    "amount": 40,
    "drilling": "3 second Drilling",
    "cleaning": "Without",
    "pressing": "Without",
    "inspection": "Complete",
}
JSON: Final = {"Content-Type": "application/json"}
_EVER: Final = 1 << 60


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]
    cookies: SimpleCookie

    @property
    def cookie(self) -> Morsel[str]:
        """The session's."""
        return self.cookies[COOKIE]


class Login(NamedTuple):
    """What a browser has of a login."""

    secret: str
    csrf: str

    @property
    def cookie(self) -> dict[str, str]:
        """What a browser sends by itself."""
        return {"Cookie": f"{COOKIE}={self.secret}"}

    @property
    def page(self) -> dict[str, str]:
        """What a page of ours sends."""
        return {**self.cookie, "X-CSRF-Token": self.csrf}


class Desk:
    """Sends requests, and remembers what is secret."""

    def __init__(self, shop: Shop, *, login: bool = True) -> None:
        self.shop = shop
        self.counter = Counter(login=login, passwords=Passwords(CHEAP))
        self.secrets = {PASSWORD}
        self.address = Address("", 0)
        """Where it is served."""

        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def open(self, *, limits: HttpLimits | None = None, https: bool = False) -> AsyncIterator[None]:
        """Served until the context ends."""
        async with (
            self.shop.serve(limits, counter=self.counter, https=https) as self.address,
            aiohttp.ClientSession(self.address.url, cookie_jar=aiohttp.DummyCookieJar()) as self._session,
        ):
            yield
        self.shop.feed = LiveFeed()  # the served one has ended

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Answer:
        """One request; redirects are not followed."""
        assert self._session is not None
        asking = self._session.request(method, path, headers=headers, allow_redirects=False, **more)
        async with asking as answer:
            body = await answer.read()
            is_json = "json" in answer.content_type
            decoded = msgspec.json.decode(body) if body and is_json else {}
            return Answer(answer.status, decoded, answer.headers, answer.cookies)

    async def log_in(self, name: str = CUSTOMER, password: str = PASSWORD) -> Login:
        """A login that succeeds."""
        answer = await self.try_to_log_in(name, password)
        assert answer.status == 200, answer.body
        login = Login(answer.cookie.value, answer.body["csrf"])
        self.secrets |= set(login)
        return login

    async def try_to_log_in(
        self, name: str = CUSTOMER, password: str = PASSWORD, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Whatever comes of it."""
        self.secrets.add(password)
        return await self.ask("POST", SESSION, headers, json={"name": name, "password": password})

    async def token(self, name: str = CUSTOMER) -> dict[str, str]:
        """The header of a program with a new token of somebody."""
        text = await self.counter.token(name)
        self.secrets.add(text)
        return {"Authorization": f"Bearer {text}"}

    async def session_until(self, expires_at: int) -> Login:
        """A login of the customer's that ends then."""
        secret = new_secret()
        self.secrets.add(secret)
        session = Session(
            digest=digest_of(secret), user=CUSTOMER, generation=0, created_at=0, expires_at=expires_at
        )
        await self.counter.accounts.add_session(session)
        return Login(secret, "")

    async def rows(self, message: str) -> list[LogRow]:
        """All rows with this message, the oldest first; there has to be one."""
        found: list[LogRow] = []

        async def are_there() -> bool:
            found[:] = [row for row in await self.all_rows() if row.message == message]
            return bool(found)

        await until(are_there)
        return found[::-1]

    async def all_rows(self) -> list[LogRow]:
        """The newest first."""
        return (await self.counter.logs.query(LogQuery(start=0, end=_EVER), 5_000)).rows
