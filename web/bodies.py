"""Bodies: what a request's has to be, and how large answers go out.

The framework converts what comes leniently, "40" to 40; whoever wrote that meant something else, so it is
refused. One that breaks off is the client's doing, and no error of ours.

Large answers go out in pieces, so that what waits for a slow reader is handed over bit by bit. The server's
deadline for a reader that takes nothing (`web.deadlines`) then holds for each piece, not for all of it: slow
networks are served, dead ones closed.
"""

import re
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec
from litestar import Request, Response
from litestar.datastructures import State
from litestar.datastructures.headers import Accept
from litestar.enums import ScopeType
from litestar.response import Stream
from litestar.types import (
    ASGIApp,
    HTTPReceiveMessage,
    Message,
    Receive,
    Scope,
    Send,
    WebSocketReceiveMessage,
)

from web.problems import AnyRequest, ParameterError, ProblemError

_FIELD: Final = re.compile(r"field `(.*?)`|at `\$\.(\w+)")
_PIECE_BYTES: Final = 64 * 1024
_LONGEST_ACCEPT: Final = 1024

_Body = TypeVar("_Body", bound=msgspec.Struct)


class BrokenOffError(ProblemError):
    """The client went before its request was complete; nobody hears the answer, the log does."""

    def __init__(self) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, "the request broke off before its end")


def whole_bodies(app: ASGIApp) -> ASGIApp:
    """A middleware within which a body that breaks off before there is an answer is `BrokenOffError`."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        is_whole = is_answered = False

        async def send_answer(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        async def receive_whole() -> HTTPReceiveMessage | WebSocketReceiveMessage:
            nonlocal is_whole
            message = await receive()
            if message["type"] == "http.request":
                is_whole = not message.get("more_body", False)
            elif not (is_whole or is_answered):
                raise BrokenOffError
            return message

        if scope["type"] == ScopeType.HTTP:
            await app(scope, receive_whole, send_answer)
        else:
            await app(scope, receive, send)

    return answer


class ForgivingRequest(Request[object, object, State]):
    """A request in which may stand what it likes: it is no error of ours."""

    @property
    def accept(self) -> Accept:
        """What the client takes; anything where the header is none, or longer than those of programs are.

        Each comma in it costs the loop microseconds.
        """
        try:
            return Accept("*/*") if len(self.headers.get("accept", "")) > _LONGEST_ACCEPT else super().accept
        except OverflowError:
            return Accept("*/*")

    async def json(self) -> object:
        """What is in the body.

        Raises:
            ParameterError: it is nested too deeply.
            ProblemError: it is not in UTF-8.
        """
        try:
            return await super().json()
        except RecursionError:
            raise ParameterError("body", "is nested too deeply") from None
        except UnicodeDecodeError:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None


async def read_body(request: AnyRequest, kind: type[_Body]) -> _Body:
    """What the request brings, of the types that it should have.

    Raises:
        ParameterError: a field is missing, unknown or of another type (400).
        ProblemError: it is not JSON (400).
    """
    body = await request.body()
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        found = _FIELD.search(str(error))
        parameter = next(filter(None, found.groups()), "body") if found else "body"
        raise ParameterError(parameter, str(error).partition(" - at `")[0]) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None


def answer_bytes(body: bytes, media_type: str, headers: Mapping[str, str]) -> Response[bytes]:
    """An answer with a body that is already encoded."""
    if len(body) <= _PIECE_BYTES:
        return Response(body, media_type=media_type, headers=dict(headers))
    length = {"Content-Length": str(len(body))}
    stream: Response[bytes] = Stream(_pieces(body), media_type=media_type, headers={**headers, **length})  # type: ignore[assignment]  # a response like any other, but for its type argument
    return stream


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    view = memoryview(body)
    for begin in range(0, len(view), _PIECE_BYTES):
        yield bytes(view[begin : begin + _PIECE_BYTES])
