"""The live view: what arrives, handed to whoever is watching now.

It keeps nothing and promises nothing: a watcher that doesn't keep up misses blocks and is told how many
records it missed, and while nobody watches nothing is done at all. Each watcher has a queue of its own,
bounded, so a browser that never reads slows and costs nobody else.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from parser.parsed import ParsedBlock

QUEUED_BYTES = 4 << 20


class Glimpse(NamedTuple):
    """A block as a watcher gets it."""

    parsed: ParsedBlock
    missed: int
    """Records that this watcher missed since the last one."""


class Watcher:
    """One subscription; iterate over it."""

    def __init__(self) -> None:
        self._blocks: deque[ParsedBlock] = deque()
        self._bytes = 0
        self._missed = 0
        self._wake = asyncio.Event()
        self._over = False

    def offer(self, parsed: ParsedBlock) -> None:
        """Queue a block, or count its records as missed."""
        size = len(parsed.block.payload)
        if self._blocks and self._bytes + size > QUEUED_BYTES:
            self._missed += parsed.block.records
        else:
            self._blocks.append(parsed)
            self._bytes += size
        self._wake.set()

    def end(self) -> None:
        """Let the iteration come to its end."""
        self._over = True
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[Glimpse]:
        """Blocks as they come, until the feed ends."""
        while not self._over:
            await self._wake.wait()
            self._wake.clear()
            while self._blocks and not self._over:
                missed, self._missed = self._missed, 0
                parsed = self._blocks.popleft()
                self._bytes -= len(parsed.block.payload)
                yield Glimpse(parsed, missed)


class LiveFeed:
    """Where committed blocks are published and watchers subscribe."""

    def __init__(self, on_watched: Callable[[bool], None] = lambda _: None) -> None:
        """`on_watched` hears of the first watcher that comes and of the last one that goes."""
        self._on_watched = on_watched
        self._watchers: set[Watcher] = set()
        self._over = False

    @property
    def watched(self) -> bool:
        """Whether there is anybody to publish for."""
        return bool(self._watchers)

    def publish(self, parsed: ParsedBlock) -> None:
        """Hand a block to all watchers; never waits."""
        for watcher in self._watchers:
            watcher.offer(parsed)

    @contextmanager
    def watch(self) -> Iterator[Watcher]:
        """A subscription for as long as the context lasts."""
        watcher = Watcher()
        self._watchers.add(watcher)
        if len(self._watchers) == 1:
            self._on_watched(True)
        if self._over:
            watcher.end()
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                self._on_watched(False)

    def end(self) -> None:
        """End all iterations, now and later: streams of events must not outlive the server."""
        self._over = True
        for watcher in self._watchers:
            watcher.end()
