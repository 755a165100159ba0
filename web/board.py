"""The board: the newest reading of each machine, for all browsers together.

One watcher of the live feed serves any number of browsers, and only while there is one. What changed is
put together a few times a second (a turn), encoded once, and each browser gets what changed since the
turn that it had last: the slower it reads, the more turns melt into one. So a browser costs the same
whatever the machines send, and one that never reads costs nothing.

The number of machines on the board is bounded: whoever sends ever new names pushes old ones off it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec
import numpy as np

from parser.parsed import ParsedBlock
from storage.clock import now_ms
from storage.live import Glimpse, LiveFeed, Watcher
from web.parameters import ClaimedTwice
from web.views import ReadingView, view_rows

TURN_S: Final = 0.25
MAX_DEVICES: Final = 10_000


class LiveFrame(msgspec.Struct, frozen=True):
    """What changed since the last one."""

    now: int
    """The server's clock, in milliseconds since 1970 UTC."""

    records: int
    """All records seen since the board began to watch: two of them give the rate."""

    devices: list[ReadingView]
    """The newest reading of each machine that sent one."""

    claimed_twice: list[str] | None
    """All machines that two connections have sent for lately, where that is news: else null. An event of one
    machine tells of that one."""


class _Row(NamedTuple):
    """Where the newest reading of a machine stands."""

    parsed: ParsedBlock
    row: int


class _Entry(NamedTuple):
    """A machine on the board."""

    turn: int
    """When it changed last."""

    view: ReadingView


class Board:
    """The newest readings of the live feed, turn by turn."""

    def __init__(self, feed: LiveFeed, claimed_twice: ClaimedTwice = frozenset) -> None:
        self._feed = feed
        self._claimed_twice = claimed_twice
        self._viewers = 0
        self._watching: asyncio.Task[None] | None = None
        self._turned = asyncio.Event()
        self._clear()

    async def frames(self, device_id: str | None = None) -> AsyncGenerator[bytes, None]:
        """A `LiveFrame` in JSON for each turn that changed something, of one machine or all.

        It ends when the feed does.
        """
        with self._viewing():
            since = self._turn
            while not self._over:
                if self._turn == since:
                    await self._turned.wait()
                    continue
                frame = self._frame(since, device_id)
                since = self._turn
                if frame is not None:
                    yield frame

    def _clear(self) -> None:
        self._over = False
        self._turn = 0
        self._records = 0
        self._claimed: list[str] = []
        self._claimed_turn = 0
        self._fresh: dict[str, _Row] = {}
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._frames: dict[tuple[int, str | None], bytes | None] = {}

    @contextmanager
    def _viewing(self) -> Iterator[None]:
        """Watch the feed from the first viewer's coming to the last one's going."""
        self._viewers += 1
        if self._watching is None:
            self._clear()
            self._watching = asyncio.create_task(self._watch())
            self._watching.add_done_callback(self._end)
        try:
            yield
        finally:
            self._viewers -= 1
            if not self._viewers:
                self._watching.cancel()
                self._watching = None

    async def _watch(self) -> None:
        with self._feed.watch() as watcher:
            collecting = asyncio.create_task(self._collect(watcher))
            try:
                while not collecting.done():
                    await asyncio.wait({collecting}, timeout=TURN_S)
                    self._take_turn()
            finally:
                collecting.cancel()

    def _end(self, watching: asyncio.Task[None]) -> None:
        """Let the viewers go when the feed is over; when the last of them left, there are none."""
        if not watching.cancelled():
            self._over = True
            self._wake()

    async def _collect(self, watcher: Watcher) -> None:
        async for glimpse in watcher:
            self._note(glimpse)

    def _note(self, glimpse: Glimpse) -> None:
        """Remember where each machine's newest reading is; what is older is not even looked at."""
        columns = glimpse.parsed.columns
        self._records += len(columns.index) + glimpse.missed
        newest = np.full(len(columns.devices), -1)
        newest[columns.codes] = np.arange(len(columns.codes))
        for device, row in zip(columns.devices, newest.tolist(), strict=True):
            if row >= 0:
                self._fresh[device] = _Row(glimpse.parsed, row)

    def _take_turn(self) -> None:
        claimed = sorted(self._claimed_twice())
        if not self._fresh and claimed == self._claimed:
            return
        self._turn += 1
        if claimed != self._claimed:
            self._claimed, self._claimed_turn = claimed, self._turn
        for view in _view(self._fresh.values()):
            self._entries[view.device_id] = _Entry(self._turn, view)
            self._entries.move_to_end(view.device_id)
        self._fresh.clear()
        while len(self._entries) > MAX_DEVICES:
            self._entries.popitem(last=False)
        self._frames.clear()
        self._wake()

    def _wake(self) -> None:
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()

    def _frame(self, since: int, device_id: str | None) -> bytes | None:
        """The frame for those who had that turn; None if there is nothing in it for them."""
        key = (since, device_id)
        if key not in self._frames:
            views = list(self._changed(since, device_id))
            claimed = self._claimed_since(since, device_id)
            frame = LiveFrame(now_ms(), self._records, views, claimed)
            is_news = bool(views) or claimed is not None
            self._frames[key] = msgspec.json.encode(frame) if is_news else None
        return self._frames[key]

    def _claimed_since(self, since: int, device_id: str | None) -> list[str] | None:
        if self._claimed_turn <= since:
            return None
        return [device for device in self._claimed if device_id in (None, device)]

    def _changed(self, since: int, device_id: str | None) -> Iterator[ReadingView]:
        if device_id is not None:
            entry = self._entries.get(device_id)
            if entry is not None and entry.turn > since:
                yield entry.view
            return
        for entry in reversed(self._entries.values()):
            if entry.turn <= since:
                return
            yield entry.view


def _view(rows: Iterable[_Row]) -> Iterator[ReadingView]:
    """The readings that stand there, block by block: one by one would take ten times as long."""
    blocks: dict[tuple[int, int], tuple[ParsedBlock, list[int]]] = {}
    for parsed, row in rows:
        blocks.setdefault((parsed.block.node, parsed.block.id), (parsed, []))[1].append(row)
    for parsed, places in blocks.values():
        yield from view_rows(parsed, places)
