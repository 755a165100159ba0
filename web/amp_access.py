"""What stands in front of the supplier's routes: the token. Who has none is said sparingly."""

import hmac
from typing import Final

import structlog
from litestar.exceptions import NotAuthorizedException
from litestar.types import ASGIApp, Middleware, Receive, Scope, Send

from orders.sparing import Sparing
from storage.clock import now_ms

_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="AMP"'}

_log = structlog.get_logger(__name__)


def require_token(token: str) -> Middleware:
    """A middleware that answers those who show this bearer token, and 401 to all others."""
    expected = token.encode("ascii")
    sparing = Sparing()

    def guarded(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            scheme, _, shown = _header(scope, b"authorization").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(shown.strip(), expected):
                if sparing.lets(now_ms()):
                    reason = "wrong token" if scheme else "no token"
                    _log.warning("caller_refused", reason=reason, times=1 + sparing.left_out())
                raise NotAuthorizedException(headers=_CHALLENGE)
            await app(scope, receive, send)

        return answer

    return guarded


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")
