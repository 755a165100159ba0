"""What stands in front of every answer: its turn, security headers, the check of the host, slashes in names.

Who reads waits for a turn when the request begins, and again when its answer is ready: both take the loop's
time. Orders don't wait: there can only be so many under way, and who sends more is refused at once.

A page of a foreign site can make a browser talk to this server under a name of its own (DNS rebinding);
bound to loopback, only the names of loopback are answered. What is no host at all is refused everywhere, as
RFC 9112 (3.2) wants it: so nobody behind this fails who puts a request's address together.

Nor do addresses come through that are longer than any of ours: the router remembers a thousand of those it
saw last.

A device's name may hold a slash. In a path it comes as `%2F`, which the server decodes before the router
splits the path. So it is replaced by a control character, which no name holds, and put back by
`path_name`.
"""

from http import HTTPStatus
from typing import Final
from urllib.parse import unquote, urlsplit

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from web.turns import Turns

_SLASH: Final = "\x1f"
_READING: Final = frozenset({"GET", "HEAD"})
_LONGEST_PATH: Final = 1024
_LONGEST_QUERY: Final = 8 * 1024
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_POLICY: Final = (
    # The chart library puts style elements and inline SVG icons into its own shadow roots.
    b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)

_HEADERS: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"content-security-policy", _POLICY),
]


def guard(app: ASGIApp, *, loopback: bool) -> ASGIApp:
    """The application behind its guard; `loopback` says that only loopback's names are answered."""
    turns = Turns()

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return

        turn = turns.take if scope["method"] in _READING else _at_once

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                await turn()
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await turn()
        if len(scope["raw_path"]) > _LONGEST_PATH or len(scope["query_string"]) > _LONGEST_QUERY:
            await _refuse(send_secured, HTTPStatus.REQUEST_URI_TOO_LONG, "no address here is as long")
            return
        host = _host_name(scope)
        if host is None:
            await _refuse(send_secured, HTTPStatus.BAD_REQUEST, "the header Host names no host")
            return
        if loopback and host not in _LOOPBACK_NAMES:
            await _refuse(
                send_secured, HTTPStatus.MISDIRECTED_REQUEST, "this server answers to localhost only"
            )
            return
        scope["path"] = _path_keeping_slashes(scope)
        await app(scope, receive, send_secured)

    return guarded


async def _at_once() -> None:
    """Without waiting for anybody."""


def path_name(segment: str) -> str:
    """A name as it was meant, out of a segment of the path."""
    return segment.replace(_SLASH, "/")


def _path_keeping_slashes(scope: Scope) -> str:
    raw = scope["raw_path"].decode("ascii")
    if "%2f" not in raw.lower():
        return scope["path"]
    return unquote(raw.replace("%2F", _SLASH).replace("%2f", _SLASH))


def _host_name(scope: Scope) -> str | None:
    """The host that the request names, in lower case, without its port; empty where it names none.

    None where what it says is no host.
    """
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
    try:
        found = urlsplit(f"//{host}")
        _ = found.port  # which is read, and refused, only here
    except ValueError:
        return None
    return (found.hostname or "") if found.netloc == host and "@" not in host else None


async def _refuse(send: Send, status: HTTPStatus, detail: str) -> None:
    """Answer with a problem document; `detail` is a constant of ours."""
    body = (
        f'{{"type":"about:blank","title":"{status.phrase}","status":{status:d},"detail":"{detail}"}}'
    ).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
