"""The real MES of the product, served on loopback, with what can go wrong on the way to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from mes.amp.service import AmpService
from mes.amp.store import AmpStore
from web.amp import create_amp_app
from web.server import serve_http
from web.settings import HttpSettings

TOKEN = "a token for tests only"  # noqa: S105  # of nobody

Trouble = Callable[[ASGIApp, Scope, Receive, Send], Awaitable[None]]


class Mes:
    """A MES that can be made to misbehave, one request after the other."""

    def __init__(self, folder: Path) -> None:
        self.store = AmpStore(folder / "mes.db")
        self.service = AmpService(self.store)
        self.troubles: list[Trouble] = []
        self.requests = 0
        self.port = 0
        self._app = create_amp_app(self.service, TOKEN)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def served(self) -> AsyncIterator["Mes"]:
        """For as long as the context lasts; a second time on the same port."""
        async with serve_http(self._answer, HttpSettings(port=self.port)) as address:
            self.port = address.port
            yield self

    async def orders(self) -> int:
        """How many it has."""
        return len(await self.store.orders(list(range(1, 100))))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        self.requests += 1
        trouble = self.troubles.pop(0) if self.troubles else _none
        await trouble(self._app, scope, receive, send)


async def _none(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def lost_answer(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """It has the order, and the connection ends before it says so."""

    async def nowhere(message: object) -> None:
        del message

    del send
    await app(scope, receive, nowhere)
    raise ConnectionResetError


async def in_pieces(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """It answers as always, and the network brings the answer bit by bit."""

    async def send_pieces(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
            return
        for byte in message["body"]:
            await send({**message, "body": bytes([byte]), "more_body": True})
            await asyncio.sleep(0)
        await send({**message, "body": b""})

    await app(scope, receive, send_pieces)


async def never(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """It takes the request and does nothing until the caller gives up."""
    del app, scope, send
    while (await receive())["type"] != "http.disconnect":
        pass


def answering(status: int, body: bytes = b"{}") -> Trouble:
    """It answers this, and has done nothing."""

    async def answer(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        del app, scope, receive
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return answer
