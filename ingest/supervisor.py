"""Watching over a sink's process: start it, tell it what is durable, hear what it did, start it again.

state      up                        trouble                  exit
STARTING   first report: RUNNING     report: WAITING          RESTARTING
RUNNING                              report: WAITING          RESTARTING
WAITING    report without: RUNNING                            RESTARTING
RESTARTING after a rest: STARTING
STOPPED    for good, when the server ends

One that says nothing for `SILENT_S` while blocks wait for it is ended by force: it hangs, be it in a library.
Whatever it does, a write or an attempt to reach the database, takes a small part of that. Looks are counted
and not seconds, so that a server that stood still itself, with answers waiting in the pipe, ends nobody.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec
import structlog

from ingest.claims import Heard
from ingest.descriptors import require_room
from ingest.metrics import IngestMetrics
from ingest.sink import SinkReport, SinkTask

_FIRST_REST_S: Final = 0.2
_LONGEST_REST_S: Final = 5.0
_END_S: Final = 5.0
_NOTED_EVERY_US: Final = 1_000_000
_UNREAD_BYTES: Final = 65536
_LOOK_S: Final = 5.0

SILENT_S: Final = 300.0
"""Without a word for so long, with work to do, a sink hangs."""

_log = structlog.get_logger("sink")


class _Noted(NamedTuple):
    """A block and when it was made; about one a second is noted."""

    block: int
    stamp_us: int


class SinkState(StrEnum):
    """What a sink is doing."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    RESTARTING = "restarting"
    STOPPED = "stopped"


class SinkStatistics(msgspec.Struct, frozen=True):
    """A sink at one moment."""

    name: str
    state: SinkState
    trouble: str
    block: int
    """Everything up to here is in its tables."""

    newest: int
    """The newest block that is durable."""

    waiting_since_us: int
    """The stamp of the oldest block that is not in its tables, to about a second; 0 if there is none."""

    pid: int | None


class Supervisor:
    """One sink's process, for as long as the server lives."""

    def __init__(
        self,
        name: str,
        task: SinkTask,
        metrics: IngestMetrics,
        on_progress: Callable[[int], None],
        heard: Heard,
    ) -> None:
        """`on_progress` gets the block up to which nothing of the sink can be lost any more."""
        self._name = name
        self._task = task
        self._metrics = metrics
        self._on_progress = on_progress
        self._heard = heard
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._state = SinkState.STARTING
        self._trouble = ""
        self._block = self._stamp_us = self._newest = 0
        self._noted: deque[_Noted] = deque()
        self._moved = asyncio.Event()
        self._looks = 0
        """How often in a row it was looked for a word of it in vain, while it had work to do."""

        self._is_held = False
        """Whether it purges nothing."""

        self._count(SinkReport(0))  # so that every series is there from the start
        metrics.sink_restarts.labels(name)
        metrics.purge_held.labels(name)

    @property
    def statistics(self) -> SinkStatistics:
        """The sink at this moment."""
        pid = self._process.pid if self._process is not None else None
        behind = self._block < self._newest
        since = self._noted[0].stamp_us if self._noted else self._stamp_us
        return SinkStatistics(
            self._name,
            self._state,
            self._trouble,
            self._block,
            self._newest,
            since if behind else 0,
            pid,
        )

    def start(self) -> asyncio.Task[None]:
        """Begin; returns before the process is there. The task watches over it until `stop`."""
        self._watching = asyncio.create_task(self._watch(), name=f"sink {self._name}")
        return self._watching

    def committed(self, block: int, stamp_us: int) -> None:
        """Tell the sink which block is the newest durable one, and when it was made."""
        if self._block >= self._newest:
            self._looks = 0
        self._newest = block
        if not self._noted or stamp_us >= self._noted[-1].stamp_us + _NOTED_EVERY_US:
            self._noted.append(_Noted(block, stamp_us))
        stdin = self._process.stdin if self._process is not None else None
        if stdin is None or stdin.is_closing():  # it has ended; the next one is told at its start
            return
        if stdin.transport.get_write_buffer_size() < _UNREAD_BYTES:
            stdin.write(b"%d\n" % block)

    async def flush(self, seconds: float) -> bool:
        """Wait until the sink has everything; False if it has not in this time."""
        try:
            async with asyncio.timeout(seconds):
                while self._block < self._newest:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """End the process, by force if it doesn't end by itself."""
        self._state = SinkState.STOPPED
        process = self._process
        if process is not None and process.returncode is None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), _END_S)
            except TimeoutError:
                process.kill()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch(self) -> None:
        rest = _FIRST_REST_S
        while self._state is not SinkState.STOPPED:
            begun = asyncio.get_running_loop().time()
            self._state = SinkState.STARTING
            code = await self._run()
            if self._state is SinkState.STOPPED:
                return
            self._state = SinkState.RESTARTING
            self._trouble = (
                "its process can't be started" if code is None else f"its process ended with status {code}"
            )
            self._metrics.sink_restarts.labels(self._name).inc()
            _log.error("sink_ended", sink=self._name, status=code)
            lived = asyncio.get_running_loop().time() - begun
            rest = _FIRST_REST_S if lived > _LONGEST_REST_S else min(2 * rest, _LONGEST_REST_S)
            await asyncio.sleep(rest)

    async def _run(self) -> int | None:
        """Start it and hear it to its end; what it ended with, None where it could not be started."""
        try:
            require_room()
            self._process = process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "ingest.sink", stdin=PIPE, stdout=PIPE
            )
        except OSError as error:  # no memory, no descriptors: that passes
            _log.error("sink_not_started", sink=self._name, reason=error.strerror)
            return None
        assert process.stdin is not None  # noqa: S101  # both are pipes
        assert process.stdout is not None  # noqa: S101
        try:
            process.stdin.write(msgspec.json.encode(self._task) + b"\n%d\n" % self._newest)
            await self._hear_all(process.stdout)
        except (msgspec.MsgspecError, ValueError) as error:  # no report, or a line that is longer than any
            _log.error("sink_not_understood", sink=self._name, reason=str(error))
            _kill(process)
        except Exception as error:  # noqa: BLE001  # a mistake of ours; the next may say something else
            _log.exception("sink_not_heard", sink=self._name, reason=repr(error))
            _kill(process)
        return await process.wait()

    async def _hear_all(self, stdout: asyncio.StreamReader) -> None:
        self._looks = 0
        while line := await self._line(stdout):
            self._looks = 0
            self._hear(msgspec.json.decode(line, type=SinkReport))

    async def _line(self, stdout: asyncio.StreamReader) -> bytes:
        """What it says next; nothing when its process has ended, which is seen to if it hangs."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_S):
                    return await stdout.readline()
            except TimeoutError:
                if self._block < self._newest:
                    self._looks += 1
                if self._looks * _LOOK_S > SILENT_S:
                    self._looks = 0
                    self._end_hanging()

    def _end_hanging(self) -> None:
        _log.error("sink_hangs", sink=self._name, silent_s=SILENT_S)
        if self._process is not None:
            _kill(self._process)

    def _hear(self, report: SinkReport) -> None:
        if report.trouble and report.trouble != self._trouble:
            _log.warning("sink_waits", sink=self._name, reason=report.trouble)
        elif self._trouble and not report.trouble:
            _log.info("sink_goes_on", sink=self._name)
        self._trouble = report.trouble
        if self._state is not SinkState.STOPPED:  # its last reports come while it is stopped
            self._state = SinkState.WAITING if report.trouble else SinkState.RUNNING
        self._log_news(report)
        self._heard(report.sightings)
        self._count(report)
        if report.block > self._block or report.block == 0 or report.again is not None:
            self._block = report.block
            self._stamp_us = max(self._stamp_us, report.stamp_us)
            while self._noted and self._noted[0].block <= report.block:
                self._noted.popleft()
            self._moved.set()
        if report.durable:
            self._on_progress(report.durable)

    def _log_news(self, report: SinkReport) -> None:
        if report.gap is not None:
            _log.error("journal_gap", sink=self._name, first=report.gap[0], last=report.gap[1])
        if report.damaged:
            _log.error("damaged_blocks", sink=self._name, blocks=report.damaged, records=report.set_aside)
        if report.again is not None:
            _log.info("written_again", sink=self._name, first=report.again[0], last=report.again[1])
        if report.held is not None:
            self._note_purge(report.held)

    def _note_purge(self, held: str) -> None:
        """Say where it stands still, and where it goes on."""
        if held:
            _log.error("nothing_is_purged", sink=self._name, reason=held)
        elif self._is_held:
            _log.info("purging_goes_on", sink=self._name)
        self._is_held = bool(held)
        self._metrics.purge_held.labels(self._name).set(self._is_held)

    def _count(self, report: SinkReport) -> None:
        metrics, name = self._metrics, self._name
        metrics.stored.labels(name).inc(report.stored)
        for reason, count in report.rejected.items():
            metrics.rejected.labels(name, reason).inc(count)
        metrics.unkept.labels(name).inc(report.unkept)
        metrics.empty.labels(name).inc(report.empty)
        metrics.set_aside.labels(name).inc(report.set_aside)
        metrics.damaged.labels(name).inc(report.damaged)
        metrics.gaps.labels(name).inc(report.gap is not None)
        metrics.store_log_bytes.labels(name).set(report.log_bytes)
        if report.requests.limit:
            metrics.store_in_flight.labels(name).set(report.requests.limit)
            for outcome in ("confirmed", "repeated", "refused"):
                metrics.store_requests.labels(name, outcome).inc(getattr(report.requests, outcome))


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):  # it is gone already
        process.kill()
