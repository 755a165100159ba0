"""The pacing client: a fleet on its lines, each record at its time.

One task paces all machines. It sleeps until the next deadline, takes the records that are due from the
source, and hands each to its machine's line. A line that can't send takes its machines out of the schedule
until it can, so a server that stops reading holds up these machines and no others, and nothing piles up.
"""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import msgspec
import numpy as np

from simulator.errors import AcknowledgementError
from simulator.fleet import Fleet
from simulator.line import AT_ONCE, Line
from simulator.link import Link
from simulator.options import SimulateOptions
from simulator.scenarios import manner
from simulator.schedule import Schedule
from simulator.source import Record, Source
from simulator.truth import LinkTruth, SentRecord, Truth
from simulator.wire import device_name

TICK_S: Final = 0.005
"""The shortest sleep; what falls due within it goes out together."""


class Statistics(msgspec.Struct, frozen=True):
    """How a run stands."""

    elapsed_s: float
    sent: int
    acknowledged: int
    again: int
    connected: int
    """Connections that are up."""

    connections: int
    """Connections made so far."""


class Client:
    """One run against one server."""

    def __init__(self, options: SimulateOptions, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare a run; nothing is sent before `pace`.

        Args:
            options: what it is to be like.
            clock: seconds that never run backwards.
        """
        self._options, self._clock = options, clock
        self._manner = manner(options)
        fleet = Fleet(options.devices, 1 / options.rate, options.seed, numbered=options.numbered)
        self._source = Source(fleet, options.seed, malformed=self._manner.malformed)
        self._schedule = Schedule(options.devices, options.rate)
        self._ready = np.zeros(options.devices, np.bool_)
        self._woken = asyncio.Event()
        gate = asyncio.Semaphore(AT_ONCE)
        self._lines = [
            Line(
                number,
                np.arange(number, options.devices, options.lines),
                options,
                self._manner,
                gate=gate,
                changed=self._line_changed,
            )
            for number in range(options.lines)
        ]
        self.error: AcknowledgementError | None = None
        """What the server acknowledged wrongly; then the run is over."""

        self._left = math.inf if options.records is None else options.records
        self._renew_at_s = self._manner.renew_s
        self._started_at = datetime.now(UTC)
        self._start_s = clock()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first record was due."""
        return self._clock() - self._start_s

    async def connect(self) -> None:
        """Make all connections; those that fail where the first one succeeded are tried again later.

        Raises:
            UnreachableError: the first one cannot be made.
        """
        first, *others = self._lines
        await first.connect()
        results = await asyncio.gather(*(line.connect() for line in others), return_exceptions=True)
        for line, failure in zip(others, results, strict=True):
            if failure is not None:
                line.reconnect()

    async def pace(self) -> None:
        """Send each record at its time, until the duration is over or all records are sent."""
        self._started_at = datetime.now(UTC)
        self._start_s = self._clock()
        end_s = math.inf if self._options.duration_s is None else self._options.duration_s
        while (now_s := self.elapsed_s) < end_s and self._left > 0 and self.error is None:
            self._issue(now_s)
            self._renew(now_s)
            await self._sleep(now_s, end_s)
        self._issue(math.nextafter(end_s, -1) if math.isfinite(end_s) else self.elapsed_s)

    async def end(self) -> None:
        """Send what is left, wait for what is to be acknowledged, close; for a bounded time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._options.finish_timeout_s):
                await asyncio.gather(*(line.end(self._last(line)) for line in self._lines))

    async def give_up(self) -> None:
        """Let go of all connections at once, and take out of the count what was never written."""
        for line in self._lines:
            for record in await line.give_up():
                self._source.tally.take_back(record.device, record.kind)

    def statistics(self) -> Statistics:
        """How the run stands."""
        links = [link for line in self._lines for link in line.links]
        return Statistics(
            elapsed_s=self.elapsed_s,
            sent=self._source.tally.sent,
            acknowledged=sum(link.acknowledged for link in links),
            again=sum(link.again for link in links),
            connected=sum(not link.ended for link in links),
            connections=len(links),
        )

    def truth(self) -> Truth:
        """All that is known about the run; call it after `give_up`."""
        links = [_link_truth(line, link) for line in self._lines for link in line.links]
        tally = self._source.tally
        return Truth(
            seed=self._options.seed,
            scenario=str(self._options.scenario),
            started_at=self._started_at.isoformat(),
            elapsed_s=self.elapsed_s,
            totals=tally.totals(links, self._schedule.slipped),
            devices=tally.devices(),
            links=links,
        )

    def _issue(self, now_s: float) -> None:
        while self._left > 0 and (which := self._schedule.due(now_s, self._ready)).size:
            if which.size > self._left:
                which = which[: int(self._left)]
            self._left -= which.size
            for record in self._source.make(which, now_s):
                self._lines[record.device % len(self._lines)].take(record)

    def _renew(self, now_s: float) -> None:
        if now_s >= self._renew_at_s:
            self._renew_at_s = now_s + self._manner.renew_s
            for line in self._lines:
                line.renew()

    async def _sleep(self, now_s: float, end_s: float) -> None:
        """Wait until something is due; a line that becomes ready may owe something at once."""
        until_s = min(self._schedule.next_s(self._ready), end_s, self._renew_at_s)
        delay_s = max(until_s - now_s, TICK_S)
        self._woken.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s if math.isfinite(delay_s) else None):
                await self._woken.wait()

    def _line_changed(self, line: Line) -> None:
        self._ready[line.devices] = line.ready
        self.error = self.error or line.error
        if line.ready or line.error:
            self._woken.set()

    def _last(self, line: Line) -> Record | None:
        """How this line ends in the scenario `cut`: even ones within a record, odd ones without a `#`."""
        if not self._manner.cuts_off or not line.devices.size:
            return None
        device = int(line.devices[0])
        if line.number % 2:
            return self._source.unterminated(device, self.elapsed_s)
        return self._source.cut_off(device, self.elapsed_s)


def _link_truth(line: Line, link: Link) -> LinkTruth:
    return LinkTruth(
        line=line.number,
        local_port=link.local_port,
        sent=link.sent,
        again=link.again,
        acknowledged=link.acknowledged,
        ended=link.ended,
        records=[
            SentRecord(device_name(record.device), record.number, record.verdict.name.lower(), again)
            for record, again in link.log
        ],
    )
