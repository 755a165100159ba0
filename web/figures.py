"""The registry as text for Prometheus, made once for all who ask within a moment.

It takes the loop a millisecond or two each time, and anybody may ask: ten who ask without a pause would have
taken all of the loop. Nobody gets figures of this process from before they asked.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics

SHARED_S: Final = 0.02

PLAIN: Final = "text/plain"
OPENMETRICS: Final = "application/openmetrics-text"

FORMATS: Final[dict[str, tuple[str, Callable[[CollectorRegistry], bytes]]]] = {
    PLAIN: (CONTENT_TYPE_PLAIN_0_0_4, prometheus_client.generate_latest),
    OPENMETRICS: (openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest),
}
"""What each is sent as, and how it is made, the usual one first.

The library's own choice between them reads the asker's versions, and fails by what is none.
"""


class Moments:
    """What is known a moment after somebody asked, for all who asked since the moment before."""

    def __init__(self, refresh: Callable[[], Awaitable[None]]) -> None:
        """`refresh` brings in what other processes know."""
        self._refresh = refresh
        self._next: asyncio.Task[dict[str, bytes]] | None = None
        self._coming: set[asyncio.Task[dict[str, bytes]]] = set()

    async def next(self) -> dict[str, bytes]:
        """Wait for it, `SHARED_S` at most before the others are asked; what was made of it, by format."""
        if self._next is None:
            self._next = asyncio.create_task(self._come())
            self._coming.add(self._next)
            self._next.add_done_callback(self._coming.discard)
        return await asyncio.shield(self._next)

    async def _come(self) -> dict[str, bytes]:
        await asyncio.sleep(SHARED_S)
        self._next = None
        await self._refresh()
        return {}


async def figures(registry: CollectorRegistry, moments: Moments, kind: str) -> bytes:
    """What `/metrics` answers with in this one of the formats."""
    made = await moments.next()
    if kind not in made:
        made[kind] = FORMATS[kind][1](registry)
    return made[kind]
