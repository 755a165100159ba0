"""The registry as text for Prometheus, made once for all who ask within a moment.

It takes the loop a millisecond or two each time, and anybody may ask: ten who ask without a pause would have
taken all of the loop. Nobody gets figures from before they asked.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics

SHARED_S: Final = 0.02

_OPENMETRICS: Final = "application/openmetrics-text"
_ENCODERS: Final[dict[str, Callable[[CollectorRegistry], bytes]]] = {
    CONTENT_TYPE_PLAIN_0_0_4: prometheus_client.generate_latest,
    openmetrics.CONTENT_TYPE_LATEST: openmetrics.generate_latest,
}
"""By media type. The library's own choice reads the asker's versions, and fails by what is none."""


def media_type(accepted: str) -> str:
    """What to answer to a header `Accept`: Prometheus' text format, or OpenMetrics where that is named."""
    named = {each.partition(";")[0].strip().lower() for each in accepted.split(",")}
    return openmetrics.CONTENT_TYPE_LATEST if _OPENMETRICS in named else CONTENT_TYPE_PLAIN_0_0_4


class Figures:
    """What `/metrics` answers with."""

    def __init__(self, registry: CollectorRegistry, refresh: Callable[[], Awaitable[None]]) -> None:
        """`refresh` brings in what other processes know."""
        self._registry = registry
        self._refresh = refresh
        self._next: dict[str, asyncio.Task[bytes]] = {}
        self._making: set[asyncio.Task[bytes]] = set()

    async def text(self, kind: str) -> bytes:
        """The figures in this media type, `SHARED_S` from now at the latest."""
        if (task := self._next.get(kind)) is None:
            task = self._next[kind] = asyncio.create_task(self._make(kind))
            self._making.add(task)
            task.add_done_callback(self._making.discard)
        return await asyncio.shield(task)

    async def _make(self, kind: str) -> bytes:
        await asyncio.sleep(SHARED_S)
        del self._next[kind]
        await self._refresh()
        return _ENCODERS[kind](self._registry)
