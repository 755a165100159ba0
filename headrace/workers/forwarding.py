"""A worker's live view: blocks that became durable, on their way to the parent while somebody looks there.

They travel as they are and are parsed by the parent, which has nothing else to do. They are gathered for a
tenth of a second; what is more than fits, or than the parent takes, is left out, the oldest first.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from headrace.workers.messages import Seen, SeenBlock
from parser.block import Block
from storage.live import QUEUED_BYTES

_GATHER_S: Final = 0.1


class Forwarder:
    """A `LiveView` that is somewhere else."""

    def __init__(self, say: Callable[[Seen], None], has_room: Callable[[], bool]) -> None:
        """`has_room` says whether the parent takes what it is sent."""
        self._say = say
        self._has_room = has_room
        self._waiting: deque[Block] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self.watched = False

    def committed(self, blocks: Iterable[Block]) -> None:
        """Blocks that are durable by now, in order."""
        if not self.watched:
            return
        for block in blocks:
            if block.payload:
                self._waiting.append(block)
                self._bytes += len(block.payload)
        while self._bytes > QUEUED_BYTES:
            self._bytes -= len(self._waiting.popleft().payload)
        if self._waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_S, self._forward)

    def _forward(self) -> None:
        self._timer = None
        if self._has_room():
            self._say(Seen([SeenBlock.of(block) for block in self._waiting]))
        self._waiting.clear()
        self._bytes = 0

    async def stop(self) -> None:
        """Nobody is shown anything any more."""
        self.watched = False
        if self._timer is not None:
            self._timer.cancel()
