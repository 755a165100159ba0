"""Handshakes wait for one another: one step of one of them in each turn of the loop.

A step of a handshake takes as long as hundreds of packets do, and anybody may ask for one. Done as they come,
two hundred hellos that come together stand before every machine that sends. Here they queue, and between any
two of them the loop looks after everybody else; together they take as long as before. While enough of them
wait nobody is accepted: the kernel's queue is the longer one, and who waits there has cost nothing yet.

What they have sent waits with them, and is bounded: for who would bring too much it is their turn at once.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

_ENOUGH: Final = 16
_MOST_BYTES: Final = 4 << 20


class Turns:
    """Who waits, in the order in which they came."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Callable[[], None], int]] = deque()
        self._bytes = 0

    @property
    def crowded(self) -> bool:
        """Whether enough of them wait."""
        return len(self._waiting) >= _ENOUGH

    def ask(self, step: Callable[[], None], size: int) -> None:
        """Have this called when it is its turn; it holds so many bytes until then."""
        if self._bytes + size > _MOST_BYTES:
            step()
            return
        self._bytes += size
        self._waiting.append((step, size))
        if len(self._waiting) == 1:
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        step, size = self._waiting[0]
        try:
            step()
        finally:
            self._waiting.popleft()
            self._bytes -= size
            if self._waiting:
                self._loop.call_soon(self._next)
