"""One server: listeners, journal, sinks and the live view, put together and ended in order.

The end (SIGTERM, SIGINT): nobody new is accepted, every stream ends (a tail is `truncated`), the last
block becomes durable and is acknowledged, the sinks get some time to take everything over, and what they
could not take stays in the journal.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec
import structlog

from ingest.assembler import Numbering
from ingest.claims import Heard
from ingest.clock import StampClock
from ingest.journal import Journal, JournalState, JournalStatistics
from ingest.listener import Listener
from ingest.live import LiveView
from ingest.metrics import IngestMetrics
from ingest.settings import IngestSettings
from ingest.sink import SinkTask
from ingest.supervisor import SinkState, SinkStatistics, Supervisor
from ingest.vital import Vital
from parser.block import Block
from parser.settings import Rules

_COMMIT_S: Final = 10.0
_FLUSH_S: Final = 10.0
_LAG_EVERY_S: Final = 0.05
_GAUGES_EVERY_S: Final = 1.0

_log = structlog.get_logger("ingest")


class Ending(msgspec.Struct, frozen=True):
    """How a server ended."""

    durable: bool
    """Whether everything that arrived is in the journal."""

    flushed: bool
    """Whether every sink has everything; the rest waits in the journal."""


class ServerStatistics(msgspec.Struct, frozen=True):
    """A server at one moment."""

    listening: bool
    connections: int
    paused: frozenset[str]
    """Why reading is paused; empty while it is not."""

    clock_jump_us: int
    journal: JournalStatistics
    sinks: list[SinkStatistics]
    failed_tasks: list[str] = []
    """Those without which the server isn't whole, in words."""

    @property
    def journal_trouble(self) -> str:
        """Why the journal takes nothing at the moment; empty while it does."""
        if self.journal.state is not JournalState.WRITING:
            return f"journal {self.journal.state}: {self.journal.reason}"
        if self.journal.bounded:
            return "journal has reached max_bytes: the sinks are too far behind"
        return ""

    @property
    def troubles(self) -> list[str]:
        """Why machines can't deliver at the moment, or must not rely on it; empty while they can."""
        found = [self.journal_trouble] if self.journal_trouble else []
        return [*found, *([] if self.listening else ["not listening"]), *self.failed_tasks]


class IngestServer:
    """Everything between a machine's socket and the tables, but the tables."""

    def __init__(
        self,
        settings: IngestSettings,
        rules: Rules,
        journal: Journal,
        numbering: Numbering,
        *,
        sinks: dict[str, SinkTask],
        live: LiveView,
        heard: Heard,
        metrics: IngestMetrics,
    ) -> None:
        """Sinks by name, each in a process of its own; all of them hold the journal's trimming."""
        self._loop = asyncio.get_running_loop()
        self._journal = journal
        self.metrics = metrics
        self._clock = StampClock(journal.tail.stamp_us)
        self.listener = Listener(
            settings, rules, self._clock, numbering, submit=journal.submit, metrics=metrics
        )
        self._live = live
        self._sinks = [
            Supervisor(name, task, metrics, self._progress(name), heard) for name, task in sinks.items()
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._vital = Vital(metrics.tasks_failed)
        self._ending: Ending | None = None
        self._trouble = ""

    async def start(self, version: str) -> None:
        """Start all parts; the listeners last.

        Raises:
            ListenError: an address can't be listened on; everything else was ended again.
        """
        for sink in self._sinks:
            self._journal.passed(sink.statistics.name, 0)
        self._journal.start(on_commit=self._on_commit, on_change=self._on_change, clock=self._clock.reading)
        for sink in self._sinks:
            sink.committed(self._journal.tail.block, self._journal.tail.stamp_us)
            self._vital.watch(sink.start())
        self._tasks = [
            asyncio.create_task(self._measure_lag(), name="loop lag"),
            asyncio.create_task(self._keep_gauges(), name="gauges"),
        ]
        for task in self._tasks:
            self._vital.watch(task)
        self._journal_changed()
        try:
            await self.listener.start(version)
        except BaseException:
            await self.stop()
            raise

    def change(self, settings: IngestSettings, rules: Rules, *, keep_hours: float) -> None:
        """Go by these from now on; see `Listener.change` for what has to stay."""
        self._journal.keep(keep_hours)
        self.listener.change(settings, rules)

    async def stop(self) -> Ending:
        """End in order; the second call only says again how it ended."""
        if self._ending is None:
            self._ending = await self._stop()
        return self._ending

    async def _stop(self) -> Ending:
        await self.listener.close()
        self.listener.stop()
        await self._until_durable()
        self.listener.hang_up()
        flushed = await asyncio.gather(*(sink.flush(_FLUSH_S) for sink in self._sinks))
        await self._live.stop()
        for sink in self._sinks:
            await sink.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        durable = await asyncio.to_thread(self._journal.close)
        return Ending(durable=durable, flushed=all(flushed))

    @property
    def statistics(self) -> ServerStatistics:
        """The server at this moment."""
        return ServerStatistics(
            self.listener.listening,
            len(self.listener.connections),
            self.listener.gate.reasons,
            self._clock.jump_us,
            self._journal.statistics,
            [sink.statistics for sink in self._sinks],
            list(self._vital.troubles),
        )

    async def _until_durable(self) -> None:
        """Wait until all that arrived is committed; not for a journal that can't commit."""
        if self._journal.statistics.state is JournalState.WRITING:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.listener.assembler.settled.wait(), _COMMIT_S)

    # What the journal's threads call, and what it leads to on the loop.

    def _on_commit(self, blocks: Sequence[Block], seconds: float) -> None:
        self._loop.call_soon_threadsafe(self._committed, blocks, seconds)

    def _on_change(self) -> None:
        self._loop.call_soon_threadsafe(self._journal_changed)

    def _committed(self, blocks: Sequence[Block], seconds: float) -> None:
        self.metrics.commit_seconds.observe(seconds)
        for sink in self._sinks:
            sink.committed(blocks[-1].id, blocks[-1].stamp_us)
        self.listener.assembler.committed(blocks[-1].id)
        self._live.committed(blocks)

    def _journal_changed(self) -> None:
        journal, gate = self._journal.statistics, self.listener.gate
        full = journal.state is not JournalState.WRITING
        (gate.close if full else gate.open)("journal_not_writing")
        (gate.close if journal.bounded else gate.open)("journal_at_max_bytes")
        trouble = self.statistics.journal_trouble
        if trouble and trouble != self._trouble:
            _log.error("journal_takes_nothing", reason=trouble)
        elif self._trouble and not trouble:
            _log.info("journal_goes_on")
        self._trouble = trouble

    def _progress(self, name: str) -> Callable[[int], None]:
        return lambda block: self._journal.passed(name, block)

    # Measuring.

    async def _measure_lag(self) -> None:
        while True:
            due = self._loop.time() + _LAG_EVERY_S
            await asyncio.sleep(_LAG_EVERY_S)
            self.metrics.loop_lag_seconds.observe(max(0.0, self._loop.time() - due))

    async def _keep_gauges(self) -> None:
        while True:
            self._set_gauges(self.statistics)
            await asyncio.sleep(_GAUGES_EVERY_S)

    def _set_gauges(self, now: ServerStatistics) -> None:
        metrics = self.metrics
        metrics.open.set(now.connections)
        metrics.paused.set(bool(now.paused))
        if self.listener.certificates is not None:
            metrics.certificate_ends.set(self.listener.certificates.until.timestamp())
        metrics.journal_bytes.set(now.journal.bytes)
        metrics.journal_queued_bytes.set(now.journal.queued_bytes)
        metrics.journal_writing.set(now.journal.state is JournalState.WRITING)
        metrics.clock_jump_seconds.set(now.clock_jump_us / 1e6)
        for sink in now.sinks:
            behind = sink.newest - sink.block
            since = sink.waiting_since_us
            age = max(0.0, time.time() - since / 1e6) if since else 0.0
            metrics.sink_lag.labels(sink.name).set(behind)
            metrics.oldest_seconds.labels(sink.name).set(age)
            metrics.sink_up.labels(sink.name).set(sink.state is SinkState.RUNNING)
