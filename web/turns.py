"""A few of those who read in each turn of the loop, so that machines are read and answered in between.

Pages and machines share a loop. However many ask at once, and whatever for, a machine waits for a few of them
and not for all. Who asks alone waits for nobody.
"""

import asyncio
from collections import deque
from typing import Final

AT_ONCE: Final = 4


class Turns:
    """Who may go on in which turn of the loop: first come, first served."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._going = 0
        """In this turn."""

    async def take(self) -> None:
        """Go on at once if few others do in this turn of the loop, or in one of the next."""
        loop = asyncio.get_running_loop()
        if not self._going:
            loop.call_soon(self._pass_on)
        if self._going < AT_ONCE:
            self._going += 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _pass_on(self) -> None:
        """To the next ones who still wait."""
        self._going = 0
        while self._waiting and self._going < AT_ONCE:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._going += 1
        if self._going:
            asyncio.get_running_loop().call_soon(self._pass_on)
