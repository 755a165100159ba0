"""Bodies: what a request's has to be, and how large answers go out.

The framework converts what comes leniently, "40" to 40; whoever wrote that meant something else, so it is
refused. Large answers go out in pieces, so that what waits for a slow reader is handed over bit by bit.
The server's deadline for a reader that takes nothing (`web.deadlines`) then holds for each piece, not for
all of it: slow networks are served, dead ones closed.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Final

import msgspec
from litestar import Response
from litestar.response import Stream

from web.problems import AnyRequest, ParameterError

_PIECE_BYTES: Final = 64 * 1024


async def check_types(request: AnyRequest, kind: type[msgspec.Struct]) -> None:
    """See that each value in the body has the type that it should have.

    Raises:
        ParameterError: one has not; it is named.
    """
    try:
        msgspec.json.decode(await request.body(), type=kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$.")
        raise ParameterError(path.rstrip("`") or "body", text) from error


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
