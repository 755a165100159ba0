"""Pages of long lists: cursors that mean nothing to the client, and links to the next page.

A cursor is the place behind the last row of a page: what kind of list it belongs to, and the row's key.
It says where, not how many, so pages neither overlap nor skip while rows are added.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Final, TypeVar
from urllib.parse import urlencode
from uuid import UUID

import msgspec

from orders.book.base import OrderPlace
from orders.logs.base import LogPlace
from storage.base import Position
from web.problems import AnyRequest, ParameterError

MAX_READINGS: Final = 50_000
"""Rows on a page: an hour at 10 Hz fits."""

MAX_ROWS: Final = 1_000
"""Rows on a page of any other list."""


class _Device(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    after: str


class _Reading(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    received_at: int
    seq: int


class _Number(msgspec.Struct, frozen=True, array_like=True, tag="n"):
    before: int


class _Order(msgspec.Struct, frozen=True, array_like=True, tag="o"):
    received_at: int
    id: str


class _Log(msgspec.Struct, frozen=True, array_like=True, tag="l"):
    timestamp: int
    id: UUID


_AnyCursor = _Device | _Reading | _Number | _Order | _Log
_Place = TypeVar("_Place", _Device, _Reading, _Number, _Order, _Log)
_decoder: Final = msgspec.msgpack.Decoder(_AnyCursor)


def after_device(cursor: str | None) -> str | None:
    """Behind which device a page of devices begins.

    Raises:
        ParameterError: it isn't a cursor of such a list; so do the others.
    """
    place = _decode(cursor, _Device)
    return place.after if place else None


def before_position(cursor: str | None) -> Position | None:
    """Behind which reading a page of a device's history begins."""
    place = _decode(cursor, _Reading)
    return Position(place.received_at, place.seq) if place else None


def before_number(cursor: str | None) -> int | None:
    """Below which number a page of rejects or connections begins."""
    place = _decode(cursor, _Number)
    return place.before if place else None


def before_order(cursor: str | None) -> OrderPlace | None:
    """Behind which order a page of orders begins."""
    place = _decode(cursor, _Order)
    return OrderPlace(place.received_at, place.id) if place else None


def before_log(cursor: str | None) -> LogPlace | None:
    """Behind which row a page of the log begins."""
    place = _decode(cursor, _Log)
    return LogPlace(place.timestamp, place.id) if place else None


def device_cursor(device_id: str) -> str:
    """Begin behind this device."""
    return _encode(_Device(device_id))


def position_cursor(position: Position) -> str:
    """Begin behind this reading."""
    return _encode(_Reading(*position))


def number_cursor(number: int) -> str:
    """Begin below this number."""
    return _encode(_Number(number))


def order_cursor(place: OrderPlace) -> str:
    """Begin behind this order."""
    return _encode(_Order(place.received_at, place.id))


def log_cursor(place: LogPlace) -> str:
    """Begin behind this row of the log."""
    return _encode(_Log(place.timestamp, place.id))


def next_url(request: AnyRequest, cursor: str | None) -> str | None:
    """Path and query of the next page: this request with another cursor; None on the last page."""
    if cursor is None:
        return None
    query = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
    path: str = request.scope["raw_path"].decode("ascii")
    return f"{path}?{urlencode([*query, ('cursor', cursor)])}"


def link_header(url: str | None) -> Mapping[str, str]:
    """The header that names the next page, where there is one."""
    return {"Link": f'<{url}>; rel="next"'} if url else {}


def _encode(place: _AnyCursor) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(place)).decode("ascii").rstrip("=")


def _decode(cursor: str | None, kind: type[_Place]) -> _Place | None:
    if cursor is None:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        place = _decoder.decode(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise ParameterError("cursor", "not one that this server gave") from error
    if not isinstance(place, kind):
        raise ParameterError("cursor", "belongs to another list")
    return place
