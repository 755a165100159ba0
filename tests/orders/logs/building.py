"""Rows to write, pages to read, and a clock that goes when it is told."""

import asyncio
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID, uuid4

from orders.logs.base import Level, LogPage, LogQuery, LogRow, LogStore
from orders.logs.handler import Clock

NOON: Final = 1_721_858_400_000
"""A beginning of an hour."""

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
EVER: Final = 1 << 62
_PATIENCE_S: Final = 20.0


def row(
    at: int = NOON,
    *,
    level: Level = Level.INFO,
    user_id: str = "Factory_model_customer",
    component: str = "Authentication",
    message: str = "Factory model customer login completed successfully",
    id_: UUID | None = None,
    **info: str,
) -> LogRow:
    """A row; its id is new unless it is given."""
    return LogRow(
        id=id_ or uuid4(),
        timestamp=at,
        user_id=user_id,
        additional_info=info,
        level=level,
        message=message,
        source_component=component,
        source_file="SecurityController",
        source_line=71,
    )


ALL: Final = LogQuery(start=0, end=EVER)


async def pages(store: LogStore, query: LogQuery = ALL, limit: int = 100) -> list[LogPage]:
    """All pages, each from where the one before ended."""
    found = [await store.query(query, limit)]
    while (place := found[-1].next) is not None:
        assert len(found[-1].rows) <= limit
        found.append(
            await store.query(
                LogQuery(
                    start=query.start,
                    end=query.end,
                    level=query.level,
                    user_id=query.user_id,
                    component=query.component,
                    text=query.text,
                    before=place,
                ),
                limit,
            )
        )
    return found


async def rows(store: LogStore, query: LogQuery = ALL, limit: int = 100) -> list[LogRow]:
    """The rows of all pages."""
    return [row for page in await pages(store, query, limit) for row in page.rows]


def newest_first(found: list[LogRow]) -> list[LogRow]:
    """As every store has to give them."""
    return sorted(found, key=lambda row: (row.timestamp, row.id), reverse=True)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it; fails where it does not come."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.001)


class FakeClock:
    """Stands still until it is moved; sleepers wake when their time has come."""

    def __init__(self, ms: int = NOON) -> None:
        self.ms = ms
        self.rests: list[float] = []
        """How long sleepers wanted to sleep, in seconds."""

        self._sleepers: list[tuple[int, asyncio.Event]] = []

    @property
    def clock(self) -> Clock:
        """As the handler wants it."""
        return Clock(lambda: self.ms, self._sleep)

    def move(self, seconds: float) -> None:
        """Let so much time pass."""
        self.ms += int(seconds * 1_000)
        for due, awake in self._sleepers:
            if due <= self.ms:
                awake.set()
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self.ms]

    async def _sleep(self, seconds: float) -> None:
        awake = asyncio.Event()
        self.rests.append(seconds)
        self._sleepers.append((self.ms + int(seconds * 1_000), awake))
        await awake.wait()
