"""Orders that can't be taken just now are refused in front of everything else.

A gateway with as many orders under way as there may be has no time to lose: to look up the token and to read
the body of one that will be refused anyway costs half of what an order does, and those under way would wait
for it. So who is refused here may be anybody, and learns only that the gateway is full.
"""

from http import HTTPStatus
from typing import Final

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Middleware, Receive, Scope, Send

from orders.facade import AmpFacade
from web.office import Refusals
from web.problems import PROBLEM_JSON, ProblemError

_ORDERS: Final = "/api/v1/orders"


class FullError(ProblemError):
    """As many orders as there may be are on their way (503)."""

    def __init__(self) -> None:
        super().__init__(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "too many orders are on their way; this request ordered nothing, try again",
        )


class Crowd:
    """Keeps orders off a gateway that is full, and tells the log."""

    def __init__(self, facade: AmpFacade, refusals: Refusals) -> None:
        self._facade = facade
        self._refusals = refusals

    def kept_off(self) -> Middleware:
        """A middleware that lets everything but those orders through."""

        def keeping(app: ASGIApp) -> ASGIApp:
            async def answer(scope: Scope, receive: Receive, send: Send) -> None:
                if self._facade.is_full and _is_order(scope):
                    await self._refuse(scope, send)
                else:
                    await app(scope, receive, send)

            return answer

        return keeping

    async def _refuse(self, scope: Scope, send: Send) -> None:
        error = FullError()
        await self._refusals.note(error, scope)
        body = msgspec.json.encode(error.problem)
        headers = [
            (b"content-type", PROBLEM_JSON.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": error.problem.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def _is_order(scope: Scope) -> bool:
    return scope["type"] == ScopeType.HTTP and scope["method"] == "POST" and scope["path"] == _ORDERS
