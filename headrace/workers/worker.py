"""Watching over one worker: start it, hear how it is, start it again, let it end in order.

state      it listens          its process ends         the server ends
STARTING   SERVING             RESTARTING               STOPPED, when it has ended
SERVING                        RESTARTING               STOPPED, when it has ended
RESTARTING after a rest: STARTING                       STOPPED
STOPPED    for good

What it says when it can't start ends the server only at the server's own start.

It is asked all the time. One that is SERVING and doesn't answer `PATIENCE` times in a row is ended by force:
it hangs, and machines hang with it, as they are still dealt out to it. Times are counted and not seconds, so
that a parent that was held up itself, with its answers waiting in the pipe, ends nobody. So is one that is
started again and still doesn't listen after `STARTING_LOOKS`.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from enum import StrEnum
from typing import Final

import msgspec
import structlog

from headrace.config import Config
from headrace.errors import ConfigError, FailedError
from headrace.workers.figures import WorkerFigures, WorkerMetrics
from headrace.workers.messages import (
    Heard,
    Listening,
    Message,
    NonsenseError,
    Order,
    Refused,
    Report,
    Seen,
    WorkerTask,
    encode,
    read_message,
)
from ingest.claims import Claims
from ingest.descriptors import require_room
from ingest.live import LiveView
from ingest.server import ServerStatistics
from ingest.vital import Vital
from parser.block import DamagedBlockError

_FIRST_REST_S: Final = 0.2
_LONGEST_REST_S: Final = 5.0
_END_S: Final = 50.0
"""Commit, sink and journal have their own deadlines within it."""

PATIENCE: Final = 10
"""How often in a row a worker may leave a question without an answer; each takes about 3 s then."""

STARTING_LOOKS: Final = 1_800
"""How often a worker may be found STARTING, at most once a second: to go through a large journal that was
damaged takes minutes."""

_UNREAD_BYTES: Final = 65536

_log = structlog.get_logger("headrace")


class WorkerState(StrEnum):
    """What a worker is doing."""

    STARTING = "starting"
    SERVING = "serving"
    RESTARTING = "restarting"
    STOPPED = "stopped"


class Worker:
    """One worker's process, for as long as the server lives."""

    def __init__(
        self,
        task: WorkerTask,
        live: LiveView,
        claims: Claims,
        *,
        figures: WorkerFigures,
        metrics: WorkerMetrics,
        vital: Vital,
    ) -> None:
        self._task = task
        self.live = live
        self._claims = claims
        self._figures = figures
        self._vital = vital
        self._up = metrics.up.labels(str(task.number))
        self._restarts = metrics.restarts.labels(str(task.number))
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._first.add_done_callback(asyncio.Future.exception)  # a start that was broken off asks no more
        self._heard = asyncio.Event()
        self._status: int | None = None
        self._listened = False
        self._refused = ""
        self._unanswered = self._looks = 0
        self.number = task.number
        self.state = WorkerState.STARTING
        self.silent = False
        """Whether it did not answer when it was asked last."""

        self.statistics: ServerStatistics | None = None
        """How it was when it was heard last."""

    async def start(self) -> None:
        """Begin, and wait until it listens.

        Raises:
            ConfigError: it says why it can't start, or can't be told what to do.
            FailedError: it ended without a word, or nobody watches over it any more.
        """
        encode(self._task)  # else nobody could be told of it
        self._watching = asyncio.create_task(self._watch(), name=f"worker {self.number}")
        self._vital.watch(self._watching)
        self._watching.add_done_callback(self._unwatched)
        await asyncio.shield(self._first)

    def _unwatched(self, _: asyncio.Task[None]) -> None:
        if not self._first.done():
            self._first.set_exception(
                FailedError(f"worker {self.number} can't be watched over; the log says why")
            )

    def tell(self, order: Order) -> None:
        """Give it an order, unless it hears none."""
        stdin = self._stdin()
        if stdin is not None and stdin.transport.get_write_buffer_size() < _UNREAD_BYTES:
            stdin.write(encode(order))

    def watch(self, watched: bool) -> None:  # noqa: FBT001  # a state, not a switch
        """Tell it whether somebody looks at the live view, now and when it is started again."""
        self._task = msgspec.structs.replace(self._task, watched=watched)
        self.tell(Order.WATCH if watched else Order.UNWATCH)

    def change(self, config: Config) -> None:
        """Let it go by another configuration, now and when it is started again."""
        self._task = msgspec.structs.replace(self._task, config=config)
        stdin = self._stdin()
        if stdin is not None:
            stdin.write(encode(config))

    def _stdin(self) -> asyncio.StreamWriter | None:
        """Its input, while it hears what is written there."""
        stdin = self._process.stdin if self._process is not None else None
        return None if stdin is None or stdin.is_closing() else stdin

    async def ask(self, seconds: float) -> None:
        """Hear how it is, if it says so in this time."""
        if self.state is not WorkerState.SERVING:
            return
        self._heard.clear()
        self.tell(Order.REPORT)
        try:
            await asyncio.wait_for(self._heard.wait(), seconds)
        except TimeoutError:
            if self.state is WorkerState.SERVING:
                self.silent = True
                self._up.set(0)
                self._figures.silent(self.number)

    async def look_after(self, seconds: float) -> None:
        """Ask it, and end it by force if it has not answered or listened for long; it is started again."""
        if self.state is WorkerState.STARTING:
            self._looks += 1
            if self._looks == STARTING_LOOKS:
                self._end_hanging(starting=True)
            return
        await self.ask(seconds)
        if self.state is not WorkerState.SERVING or not self.silent:
            return
        self._unanswered += 1
        if self._unanswered == PATIENCE:
            self._end_hanging(unanswered=PATIENCE)

    def _end_hanging(self, **how: int) -> None:
        if self._process is not None:
            _log.error("worker_hangs", worker=self.number, **how)
            _kill(self._process)

    async def stop(self) -> bool:
        """Let it end in order; False if not all that it received is durable. It may be called again."""
        before, self.state = self.state, WorkerState.STOPPED
        watching = self._watching
        if watching is None or watching.done():
            return True
        if before is WorkerState.RESTARTING:
            watching.cancel()
            return True
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        ended, _ = await asyncio.wait({watching}, timeout=_END_S)
        if not ended and self._process is not None:
            self._process.kill()
            await asyncio.wait({watching})
        return self._status == 0 or not self._listened

    # Its life.

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        rest = _FIRST_REST_S
        while True:
            begun = loop.time()
            self.state, self.silent, self._refused = WorkerState.STARTING, False, ""
            self._listened, self._unanswered, self._looks = False, 0, 0
            self._status = await self._run()
            self._up.set(0)
            self._figures.ended(self.number)
            if not self._first.done():
                self._first.set_exception(self._why_not())
            if self.state is WorkerState.STOPPED or self._first.exception() is not None:
                return
            self.state = WorkerState.RESTARTING
            self._restarts.inc()
            _log.error("worker_ended", worker=self.number, status=self._status, reason=self._refused or None)
            rest = _FIRST_REST_S if loop.time() - begun > _LONGEST_REST_S else min(2 * rest, _LONGEST_REST_S)
            await asyncio.sleep(rest)
            self._task = msgspec.structs.replace(self._task, adopt_node=False, accept_clock=False)

    def _why_not(self) -> Exception:
        if self._refused:
            return ConfigError(self._refused)
        return FailedError(
            f"worker {self.number} ended with status {self._status} before it listened; the log says why"
        )

    async def _run(self) -> int | None:
        """Start it and hear it to its end; what it ended with, None where it could not be started."""
        try:
            require_room()
            self._process = process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "headrace.workers.process", stdin=PIPE, stdout=PIPE
            )
        except OSError as error:  # no memory, no descriptors: that passes
            self._refused = f"its process can't be started: {error.strerror}"
            return None
        assert process.stdin is not None  # noqa: S101  # both are pipes
        assert process.stdout is not None  # noqa: S101
        try:
            process.stdin.write(encode(self._task))
            if self.state is WorkerState.STOPPED:  # the server ended while it was being started
                process.stdin.close()
            await self._hear_all(process.stdout)
        except (NonsenseError, DamagedBlockError) as error:
            _log.error("worker_not_understood", worker=self.number, reason=str(error))
            _kill(process)
        except Exception as error:  # noqa: BLE001  # a mistake of ours; the next may say something else
            _log.exception("worker_not_heard", worker=self.number, reason=repr(error))
            _kill(process)
        return await process.wait()

    async def _hear_all(self, stdout: asyncio.StreamReader) -> None:
        while (message := await read_message(stdout)) is not None:
            self._hear(message)

    def _hear(self, message: Message) -> None:
        match message:
            case Listening():
                self._serves()
            case Refused(reason=reason):
                self._refused = reason
            case Report():
                self.statistics, self.silent, self._unanswered = message.statistics, False, 0
                self._up.set(1)
                self._figures.reported(self.number, message.figures)
                self._heard.set()
            case Seen(blocks=blocks):
                self.live.committed([seen.block() for seen in blocks])
            case Heard(sightings=sightings):
                self._claims.heard(sightings, self.number)

    def _serves(self) -> None:
        self._up.set(1)
        self._listened = True
        if self.state is WorkerState.STARTING:
            self.state = WorkerState.SERVING
        if not self._first.done():
            self._first.set_result(None)
        else:
            _log.info("worker_goes_on", worker=self.number)
        self.tell(Order.WATCH if self._task.watched else Order.UNWATCH)


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):  # it is gone already
        process.kill()
