"""The telemetry API: machines, their readings, and what became of everything that was received.

Long lists come in pages, the newest first, see `web.paging`.
"""

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec
from litestar import Response, Router, get
from litestar.openapi.datastructures import ResponseSpec

from orders.permissions import Permission
from storage.base import Position, Reading
from web.bodies import answer_bytes
from web.identity import needs
from web.paging import (
    MAX_READINGS,
    after_device,
    before_number,
    before_position,
    device_cursor,
    link_header,
    next_url,
    number_cursor,
    position_cursor,
)
from web.parameters import (
    Ago,
    Claimed,
    ConnectionQuery,
    CursorQuery,
    DeviceId,
    DeviceQuery,
    EndQuery,
    ReadingsLimitQuery,
    RowsLimitQuery,
    StartQuery,
    StepsQuery,
    Store,
    read_device,
    read_number,
    read_range,
)
from web.problems import AnyRequest, NoSuchDeviceError, NotAcceptableError, ParameterError
from web.slots import Slots
from web.tables import encode_arrow, encode_csv
from web.trend import Trend, make_trend
from web.views import (
    ConnectionView,
    DeviceView,
    LatestView,
    LedgerView,
    ReadingView,
    RejectView,
    view_connection,
    view_devices,
    view_latest,
    view_minute,
    view_readings,
    view_reject,
)

LARGE_ANSWERS: Final = 16
"""How many pages of readings, or trends out of them, are on their way at once."""

MAX_LEDGER_MS: Final = 31 * 86_400_000

_ROWS_AT_ONCE: Final = 2_000

_Row = TypeVar("_Row")


class DevicesPage(msgspec.Struct, frozen=True):
    """Machines by name."""

    devices: list[DeviceView]
    next: str | None


class ReadingsPage(msgspec.Struct, frozen=True):
    """Readings of one machine, the newest first."""

    readings: list[ReadingView]
    next: str | None
    """Path and query of the next page, None on the last."""


class RejectsPage(msgspec.Struct, frozen=True):
    """Rejected records, the newest first."""

    rejects: list[RejectView]
    next: str | None


class ConnectionsPage(msgspec.Struct, frozen=True):
    """Connections, the newest first."""

    connections: list[ConnectionView]
    next: str | None


class Ledger(msgspec.Struct, frozen=True):
    """Minutes by node and time."""

    minutes: list[LedgerView]


@get("/devices", summary="Machines with their newest reading, by name")
async def list_devices(
    request: AnyRequest,
    store: Store,
    claimed_twice: Claimed,
    limit: RowsLimitQuery = 100,
    cursor: CursorQuery = None,
) -> Response[DevicesPage]:
    """Every machine that ever sent a reading."""
    rows = await store.devices(after=after_device(cursor), limit=limit + 1)
    page, last = _cut(rows, limit)
    url = next_url(request, device_cursor(last.device_id) if last else None)
    return Response(DevicesPage(view_devices(page, claimed_twice()), url), headers=link_header(url))


@get("/devices/{device_id:str}/latest", summary="A machine's newest reading")
async def get_latest(device_id: DeviceId, store: Store, claimed_twice: Claimed) -> LatestView:
    """404 where the machine never sent one."""
    reading = await store.latest(read_device(device_id))
    if reading is None:
        raise NoSuchDeviceError
    return view_latest(reading, claimed_twice())


def _encode_json(readings: Sequence[Reading], url: str | None) -> bytes:
    """A `ReadingsPage`, encoded bit by bit: at one go it would hold up the loop, from any thread."""
    parts = [
        msgspec.json.encode(view_readings(readings[begin : begin + _ROWS_AT_ONCE])).strip(b"[]")
        for begin in range(0, len(readings), _ROWS_AT_ONCE)
    ]
    return b'{"readings":[%b],"next":%b}' % (b",".join(parts), msgspec.json.encode(url))


_ENCODERS: Final[dict[str, Callable[[Sequence[Reading], str | None], bytes]]] = {
    "application/json": _encode_json,
    "text/csv": lambda readings, _: encode_csv(readings),
    "application/vnd.apache.arrow.stream": lambda readings, _: encode_arrow(readings),
}


@get(
    "/devices/{device_id:str}/readings",
    summary="A machine's readings, the newest first, as JSON, CSV or Arrow stream",
    responses={HTTPStatus.OK: ResponseSpec(ReadingsPage, description="One page", generate_examples=False)},
)
async def list_readings(
    *,
    request: AnyRequest,
    device_id: DeviceId,
    store: Store,
    start: StartQuery = None,
    end: EndQuery = None,
    limit: ReadingsLimitQuery = 1_000,
    cursor: CursorQuery = None,
) -> Response[bytes]:
    """Readings with start <= received_at < end; what Accept asks for decides the format."""
    media_type = request.accept.best_match(list(_ENCODERS))
    if media_type is None:
        raise NotAcceptableError(list(_ENCODERS))
    device = read_device(device_id)
    span = read_range(start, end)
    rows = await store.history(device, span.start, span.end, limit=limit + 1, before=before_position(cursor))
    await _check_known(store, device, rows)
    page, last = _cut(rows, limit)
    place = position_cursor(Position(last.received_at, last.seq)) if last else None
    url = next_url(request, place)
    body = await asyncio.to_thread(_ENCODERS[media_type], page, url)
    return answer_bytes(body, media_type, {"Vary": "Accept", **link_header(url)})


@get("/devices/{device_id:str}/trend", summary="A machine's history in steps, for charts")
async def get_trend(
    device_id: DeviceId,
    store: Store,
    start: StartQuery = None,
    end: EndQuery = None,
    steps: StepsQuery = 400,
) -> Trend:
    """Lowest, mean and highest value of each field in each step; the last hour by default."""
    device = read_device(device_id)
    span = read_range(start, end, default=Ago(3_600_000))
    rows = await store.history(device, span.start, span.end, limit=MAX_READINGS)
    await _check_known(store, device, rows)
    begin = span.start if len(rows) < MAX_READINGS else rows[-1].received_at
    return await asyncio.to_thread(make_trend, device, rows, begin, span.end, steps=steps)


@get("/rejects", summary="Rejected records with their bytes, the newest first")
async def list_rejects(
    *,
    request: AnyRequest,
    store: Store,
    device: DeviceQuery = None,
    connection: ConnectionQuery = None,
    limit: RowsLimitQuery = 100,
    cursor: CursorQuery = None,
) -> Response[RejectsPage]:
    """All, or those of one machine or one connection."""
    rows = await store.rejects(
        device_id=device,
        connection=read_number("connection", connection),
        before=before_number(cursor),
        limit=limit + 1,
    )
    page, last = _cut(rows, limit)
    url = next_url(request, number_cursor(last.seq) if last else None)
    return Response(RejectsPage([view_reject(row) for row in page], url), headers=link_header(url))


@get("/connections", summary="Connections of machines, the newest first")
async def list_connections(
    request: AnyRequest, store: Store, limit: RowsLimitQuery = 100, cursor: CursorQuery = None
) -> Response[ConnectionsPage]:
    """What came over each, and why it was closed."""
    rows = await store.connections(before=before_number(cursor), limit=limit + 1)
    page, last = _cut(rows, limit)
    url = next_url(request, number_cursor(last.connection) if last else None)
    views = [view_connection(row) for row in page]
    return Response(ConnectionsPage(views, url), headers=link_header(url))


@get("/ledger", summary="What became of the received records, minute by minute")
async def list_ledger(store: Store, start: StartQuery = None, end: EndQuery = None) -> Ledger:
    """The last hour by default, 31 days at most."""
    span = read_range(start, end, default=Ago(3_600_000))
    if span.end - span.start > MAX_LEDGER_MS:
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        raise ParameterError("start", "must be at most 31 days before end", status)
    return Ledger([view_minute(minute) for minute in await store.ledger(span.start, span.end)])


def telemetry_router() -> Router:
    """All of the above; it needs the dependency `store`."""
    slots = Slots(LARGE_ANSWERS)
    return Router(
        "/",
        route_handlers=[
            list_devices,
            get_latest,
            Router(
                "/",
                route_handlers=[list_readings, get_trend],
                middleware=[slots.limit(Permission.TELEMETRY_READ)],
            ),
            list_rejects,
            list_connections,
            list_ledger,
        ],
        guards=needs(Permission.TELEMETRY_READ),
        tags=["Telemetry"],
    )


async def _check_known(store: Store, device: str, rows: Sequence[Reading]) -> None:
    """Tell a machine that sent nothing in a range from one that never sent anything."""
    if not rows and await store.latest(device) is None:
        raise NoSuchDeviceError


def _cut(rows: list[_Row], limit: int) -> tuple[list[_Row], _Row | None]:
    """A page out of one row more than its limit; its last row where another page follows."""
    return (rows[:limit], rows[limit - 1]) if len(rows) > limit else (rows, None)
