"""The way into the live view: durable blocks, parsed for whoever is watching.

Parsing happens in a thread (pyarrow lets go of the interpreter's lock) and only while somebody watches.
When blocks come faster than they are parsed the oldest that wait are left out: it is a view, not a sink.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

from parser.block import Block
from parser.parsed import ParsedBlock
from storage.live import LiveFeed

_WAITING_BLOCKS: Final = 32


class LiveView(Protocol):
    """Who wants to see blocks as soon as they are durable, and may leave some out."""

    def committed(self, blocks: Iterable[Block]) -> None:
        """Blocks that are durable by now, in order."""
        ...

    async def stop(self) -> None:
        """The server ends."""
        ...


class LivePublisher:
    """Feeds a feed."""

    def __init__(self, feed: LiveFeed) -> None:
        self._feed = feed
        self._waiting: deque[Block] = deque(maxlen=_WAITING_BLOCKS)
        self._task: asyncio.Task[None] | None = None

    def committed(self, blocks: Iterable[Block]) -> None:
        """Blocks that are durable by now, in order."""
        if not self._feed.watched:
            return
        self._waiting.extend(block for block in blocks if len(block.payload))
        if self._waiting and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._publish(), name="live view")

    async def _publish(self) -> None:
        while self._waiting:
            block = self._waiting.popleft()
            self._feed.publish(await asyncio.to_thread(ParsedBlock.of, block))

    async def stop(self) -> None:
        """End all watching."""
        self._feed.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
