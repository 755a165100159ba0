"""How many requests of one kind are answered at once, of those who may ask.

A slot is held from the request until its answer is handed over, so slow readers of large answers can't
pile them up in memory. Who finds none free waits a little, then gets 503. Who may not ask is told so
before: else strangers who are slow to read that would hold all slots.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from litestar.types import ASGIApp, Middleware, Receive, Scope, Send

from orders.permissions import Permission
from web.identity import check_permission
from web.problems import TooManyError

PATIENCE_S: Final = 5.0


class Slots:
    """A number of slots, shared by the routes that it is put in front of."""

    def __init__(self, number: int) -> None:
        self._free = asyncio.Semaphore(number)

    def limit(self, *permissions: Permission) -> Middleware:
        """A middleware that answers who has one of these permissions, with a slot in hand."""

        def limited(app: ASGIApp) -> ASGIApp:
            async def answer(scope: Scope, receive: Receive, send: Send) -> None:
                check_permission(scope, *permissions)
                async with self._slot():
                    await app(scope, receive, send)

            return answer

        return limited

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(self._free.acquire(), PATIENCE_S)
        except TimeoutError as error:
            raise TooManyError from error
        try:
            yield
        finally:
            self._free.release()
