"""A LogHandler with nothing left to chance: its store fails when it is told, its clock stands still."""

import asyncio

from prometheus_client import CollectorRegistry

from orders.logs.base import LogRow
from orders.logs.handler import LogHandler
from orders.logs.memory import MemoryLogStore
from orders.settings import KeepDays, LogSettings
from tests.orders.logs.building import FakeClock, rows, until


class FaultyStore(MemoryLogStore):
    """One that can be away, hang, or have a bug."""

    def __init__(self) -> None:
        super().__init__(KeepDays(INFO=1.0))
        self.error: Exception | None = None
        self.purge_error: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = 0
        self.batches: list[int] = []
        self.purges = 0

    async def append(self, rows: list[LogRow]) -> None:
        """Fail, hang or write."""
        self.asked += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        self.batches.append(len(rows))
        await super().append(rows)

    async def purge(self, now: int) -> int:
        """Fail or delete."""
        self.purges += 1
        if self.purge_error is not None:
            raise self.purge_error
        return await super().purge(now)


class Desk:
    """A handler over a store that can fail, and a clock that stands still."""

    def __init__(self, max_waiting: int = 10_000) -> None:
        self.store = FaultyStore()
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        self.handler = LogHandler(
            self.store,
            LogSettings(max_waiting=max_waiting),
            self.registry,
            clock=self.clock.clock,
            close_s=0.05,
        )
        self.log = self.handler.logger(component="CustomerOrder", file="AmpFacadeAPI")

    async def rows(self) -> list[LogRow]:
        """What is written, in the order in which it was said."""
        return (await rows(self.store))[::-1]

    async def messages(self) -> list[str]:
        """The same, in short."""
        return [row.message for row in await self.rows()]

    def metric(self, name: str, **labels: str) -> float:
        """What Prometheus sees."""
        found = self.registry.get_sample_value(f"headrace_log_{name}", labels)
        assert found is not None
        return found

    async def written(self, count: int) -> None:
        """Wait until so many rows are."""
        await until(lambda: self.handler.statistics.written == count)
