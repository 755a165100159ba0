"""What stands in front of the supplier's routes: the token, and the trace that a request belongs to."""

import hmac
import re
import secrets
from typing import Final

import structlog
from litestar.exceptions import NotAuthorizedException
from litestar.types import ASGIApp, Middleware, Receive, Scope, Send

_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="AMP"'}

_TRACEPARENT: Final = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    r"(?P<more>-.*)?",
    re.ASCII,
)

_log = structlog.get_logger(__name__)


def require_token(token: str) -> Middleware:
    """A middleware that answers those who show this bearer token, and 401 to all others."""
    expected = token.encode("ascii")

    def guarded(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            scheme, _, shown = _header(scope, b"authorization").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(shown.strip(), expected):
                _log.warning("caller_refused", reason="wrong token" if scheme else "no token")
                raise NotAuthorizedException(headers=_CHALLENGE)
            await app(scope, receive, send)

        return answer

    return guarded


def follow_trace(app: ASGIApp) -> ASGIApp:
    """A middleware that puts `trace_id` into every line of the log that a request brings about."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        trace_id = read_trace(_header(scope, b"traceparent").decode("latin-1")) or secrets.token_hex(16)
        with structlog.contextvars.bound_contextvars(trace_id=trace_id):
            await app(scope, receive, send)

    return answer


def read_trace(traceparent: str) -> str | None:
    """The trace out of a W3C `traceparent`; None where it is none, and a new trace has to begin.

    Later versions may say more behind what the first one says; the first one may not.
    """
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None or (found["version"] == "00" and found["more"]):
        return None
    return found["trace"]


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")
