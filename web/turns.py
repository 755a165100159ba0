"""One of those who read in each turn of the loop, so that machines are read and answered in between.

Pages and machines share a loop. However many ask at once, and whatever for, a machine waits for one of them
and not for all. Who asks alone waits for nobody.
"""

import asyncio
from collections import deque


class Turns:
    """Who may go on next: first come, first served."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_taken = False

    async def take(self) -> None:
        """Go on at once if nobody else does in this turn of the loop, or in one of the next."""
        loop = asyncio.get_running_loop()
        if not self._is_taken:
            self._is_taken = True
            loop.call_soon(self._pass_on)
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _pass_on(self) -> None:
        """To the next one who still waits."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._pass_on)
                return
        self._is_taken = False
