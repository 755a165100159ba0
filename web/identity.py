"""Who sends a request, and whether they may.

    program   Authorization: Bearer hrt_...         a token
    person    Cookie: headrace_session=...          a login; changing anything needs more, see below
    open      neither                               a server without login, on loopback only

A browser sends its cookie whoever makes it ask. So what a login changes has to come from a page of ours: the
header `X-CSRF-Token` carries what only such a page can read, and Origin and Sec-Fetch-Site, where the browser
sends them, must say so too (OWASP CSRF Prevention Cheat Sheet; W3C Fetch Metadata). Nobody changes anything
from a foreign page on an open server either. A body is JSON and says so, which a plain form can't.
"""

import hmac
from http import HTTPStatus
from typing import Final

from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Guard, Middleware, Receive, Scope, Send

from orders.accounts.principal import Principal, open_principal
from orders.accounts.security import SecurityController
from orders.permissions import Permission
from web.problems import ProblemError

COOKIE: Final = "headrace_session"
SECURE_COOKIE: Final = f"__Host-{COOKIE}"
"""Over HTTPS: browsers take one of this name from this very host only, and only over HTTPS (RFC 6265bis)."""

CSRF_HEADER: Final = b"x-csrf-token"

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES: Final = frozenset({b"same-origin", b"none"})
_PERSON: Final = "session"
_MAX_SECRET: Final = 512


class NotAuthenticatedError(ProblemError):
    """Nobody knows who asks (401)."""

    def __init__(self, detail: str = "log in, or send a token", *, error: str = "") -> None:
        how = 'Bearer realm="Headrace"' + (f', error="{error}"' if error else "")
        super().__init__(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": how})


class NotAllowedError(ProblemError):
    """Who asks is known and may not (403)."""

    def __init__(self, detail: str) -> None:
        super().__init__(HTTPStatus.FORBIDDEN, detail)


class Identity:
    """Tells callers apart, people by this cookie; without a controller all are one and may do everything."""

    def __init__(self, security: SecurityController | None, cookie: str) -> None:
        self._security = security
        self._cookie = cookie

    def known(self) -> Middleware:
        """A middleware that puts the caller into the scope, None where nobody knows them."""

        def knowing(app: ASGIApp) -> ASGIApp:
            async def answer(scope: Scope, receive: Receive, send: Send) -> None:
                if scope["type"] == ScopeType.HTTP:
                    headers = dict(scope["headers"])
                    scope["user"] = principal = await self._principal(headers)
                    if scope["method"] not in _SAFE:
                        _check_change(headers, principal)
                await app(scope, receive, send)

            return answer

        return knowing

    async def _principal(self, headers: dict[bytes, bytes]) -> Principal | None:
        if self._security is None:
            return open_principal()
        if b"authorization" in headers:
            scheme, _, token = headers[b"authorization"].decode("latin-1").partition(" ")
            if scheme.lower() != "bearer" or not 0 < len(token) <= _MAX_SECRET:
                raise NotAuthenticatedError(
                    "Authorization: must be Bearer and a token", error="invalid_request"
                )
            principal = await self._security.of_token(token.strip())
            if principal is None:
                raise NotAuthenticatedError("the token is not valid (any more)", error="invalid_token")
            return principal
        secret = cookie_of(headers.get(b"cookie", b""), self._cookie)
        return await self._security.of_session(secret) if secret else None


def needs(*permissions: Permission) -> list[Guard]:
    """Guards for a route that asks for one of these permissions."""

    def check(connection: ASGIConnection[object, object, object, State], _: BaseRouteHandler) -> None:
        check_permission(connection.scope, *permissions)

    return [check]


def check_permission(scope: Scope, *permissions: Permission) -> None:
    """See that the caller has one of these permissions.

    Raises:
        NotAuthenticatedError: nobody knows who asks.
        NotAllowedError: they have none of them.
    """
    principal = caller(scope)
    if not any(map(principal.may, permissions)):
        first = permissions[0]
        raise NotAllowedError(_REFUSALS.get(first, f"the permission {first} is needed"))


def caller(scope: Scope) -> Principal:
    """Who asks.

    Raises:
        NotAuthenticatedError: nobody knows.
    """
    principal: Principal | None = scope["user"]
    if principal is None:
        raise NotAuthenticatedError
    return principal


def cookie_of(header: bytes, cookie: str) -> str:
    """The session's secret, of the cookie of this name; empty where there is none, or more than one.

    Whoever can set a cookie for this host, another of its ports for example, could put theirs beside ours.
    """
    pairs = (pair.partition("=") for pair in header.decode("latin-1").split(";"))
    found = [value.strip() for name, _, value in pairs if name.strip() == cookie]
    return found[0] if len(found) == 1 and len(found[0]) <= _MAX_SECRET else ""


def _check_change(headers: dict[bytes, bytes], principal: Principal | None) -> None:
    """See that a change was asked for on a page of ours, unless a program asks."""
    if b"authorization" not in headers:
        _check_origin(headers)
    if principal is not None and principal.via == _PERSON:
        expected = (principal.csrf or "").encode()
        if not expected or not hmac.compare_digest(headers.get(CSRF_HEADER, b""), expected):
            raise NotAllowedError("X-CSRF-Token: is missing or not that of this session; reload the page")
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if _has_body(headers) and kind != b"application/json":
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Type: must be application/json")


def _check_origin(headers: dict[bytes, bytes]) -> None:
    site = headers.get(b"sec-fetch-site", b"none")
    host = headers.get(b"host", b"").lower()
    origin = headers.get(b"origin", b"http://" + host).lower()
    if site not in _OWN_SITES or origin not in (b"http://" + host, b"https://" + host):
        raise NotAllowedError("Origin: only pages of this server may change something")


def _has_body(headers: dict[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


_REFUSALS: Final = {
    Permission.ORDERS_SUBMIT: "Request submission failed due to lack of user permission",
}
