"""Server-sent events: what is happening now, for pages (`/live`) and for `headrace tail` (`/stream`).

Nothing here may cost the machines anything. A stream that isn't read stops at the socket: the live view
then melts turns together, the record stream misses blocks and says how many records, and the server's
stall deadline closes the connection in the end. All record streams together get a share of the loop's
time: after building events for a while they leave it alone four times as long.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final, TypeAlias

import msgspec
import numpy as np
from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from litestar.response import Stream

from orders.permissions import Permission
from parser.parsed import ParsedBlock
from storage.live import LiveFeed
from web.board import Board
from web.identity import needs
from web.parameters import DeviceQuery
from web.slots import Slots
from web.views import ReadingView, view_rows

HEARTBEAT_S: Final = 10.0
ROWS_IN_EVENT: Final = 1_000
MAX_LIVE: Final = 256
MAX_STREAMS: Final = 16
LEAVE_ALONE: Final = 4
"""For each second of work on record streams, so many seconds for everybody else."""

_EVENTS: Final = "text/event-stream"
_OPENING: Final = b"retry: 2000\n\n"
_HEARTBEAT: Final = b": alive\n\n"

TheBoard: TypeAlias = NamedDependency[SkipValidation[Board]]
TheFeed: TypeAlias = NamedDependency[SkipValidation[LiveFeed]]


class StreamFrame(msgspec.Struct, frozen=True):
    """Readings as they arrived."""

    missed: int
    """Records of any machine that this stream missed before these, as it wasn't read fast enough."""

    records: list[ReadingView]


class Share:
    """A share of the loop's time, for all who work under it together."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def view(self, parsed: ParsedBlock, rows: list[int]) -> list[ReadingView]:
        """Rows of a block, when it is our turn."""
        async with self._lock:
            began = time.perf_counter()
            views = view_rows(parsed, rows)
            await asyncio.sleep(LEAVE_ALONE * (time.perf_counter() - began))
            return views


def events_router() -> Router:
    """Both streams; it needs the dependencies `board` and `feed`."""
    share = Share()

    @get(
        "/live",
        summary="The newest reading of each machine as it changes",
        media_type=_EVENTS,
        middleware=[Slots(MAX_LIVE).limit(Permission.TELEMETRY_READ)],
    )
    async def live(board: TheBoard, device: DeviceQuery = None) -> Stream:
        """Events `latest` with a `LiveFrame`, four a second at most, with what changed only."""
        return _stream("latest", board.frames(device))

    @get(
        "/stream",
        summary="Every reading as it arrives",
        media_type=_EVENTS,
        middleware=[Slots(MAX_STREAMS).limit(Permission.TELEMETRY_READ)],
    )
    async def stream(feed: TheFeed, device: DeviceQuery = None) -> Stream:
        """Events `records` with a `StreamFrame`."""
        return _stream("records", stream_frames(feed, device, share))

    return Router("/", route_handlers=[live, stream], guards=needs(Permission.TELEMETRY_READ), tags=["Live"])


async def stream_frames(feed: LiveFeed, device_id: str | None, share: Share) -> AsyncIterator[bytes]:
    """A `StreamFrame` in JSON for each block (more for a large one), of one machine or all."""
    with feed.watch() as watcher:
        async for parsed, missed in watcher:
            rows = _rows_of(parsed, device_id)
            if missed and not rows:
                yield msgspec.json.encode(StreamFrame(missed, []))
            for begin in range(0, len(rows), ROWS_IN_EVENT):
                views = await share.view(parsed, rows[begin : begin + ROWS_IN_EVENT])
                yield msgspec.json.encode(StreamFrame(0 if begin else missed, views))


def _rows_of(parsed: ParsedBlock, device_id: str | None) -> list[int]:
    columns = parsed.columns
    if device_id is None:
        return list(range(len(columns.codes)))
    if device_id not in columns.devices:
        return []
    rows: list[int] = np.flatnonzero(columns.codes == columns.devices.index(device_id)).tolist()
    return rows


def _stream(name: str, frames: AsyncIterator[bytes]) -> Stream:
    return Stream(
        _as_events(name, frames),
        media_type=_EVENTS,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _as_events(name: str, frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The event stream's bytes, with a comment now and then to show that it lives."""
    head = f"event: {name}\ndata: ".encode()
    yield _OPENING
    while True:
        upcoming = asyncio.ensure_future(anext(frames, None))
        try:
            while not (await asyncio.wait({upcoming}, timeout=HEARTBEAT_S))[0]:
                yield _HEARTBEAT
        finally:
            upcoming.cancel()
        frame = upcoming.result()
        if frame is None:
            return
        yield head + frame + b"\n\n"
