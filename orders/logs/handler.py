"""LogHandler: what happens at the gateway becomes rows, and nobody who acts waits for them.

A row is put into a bounded queue; a task writes what waits together, and tries again for as long as the
database is away. What the queue can't take is counted, and told of by a row once there is room. ERROR and
FATAL go to standard error at once: a log that can't be written must not hide what halts the application.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from orders.logs.base import Level, LogRow, LogStore
from orders.logs.logger import ActivityLogger, Loggers
from orders.logs.metrics import LogMetrics
from orders.logs.waiting import WaitingRows
from orders.settings import LogSettings
from storage.clock import now_ms
from storage.errors import StorageError

_WRITTEN_TOGETHER: Final = 500
_FIRST_REST_S: Final = 0.25
_LONGEST_REST_S: Final = 10.0
_PURGE_EVERY_S: Final = 3_600.0
_BETWEEN_PURGES_S: Final = 0.05

_log = structlog.get_logger("log")


class LogStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the rows since the start."""

    written: int
    waiting: int
    lost: int
    store_trouble: str
    """Why rows wait; empty while they are written."""


class Clock(NamedTuple):
    """What the handler knows of time."""

    now_ms: Callable[[], int] = now_ms
    """Milliseconds since 1970 UTC; rows bear it, and what is old is old by it."""

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """So many seconds."""


_REAL: Final = Clock()


class LogHandler:
    """Takes rows from now on, writes them between `start` and `close`. The store stays its opener's.

    `close_s` is how long closing may take, in seconds.
    """

    def __init__(
        self,
        store: LogStore,
        settings: LogSettings,
        registry: CollectorRegistry,
        *,
        clock: Clock = _REAL,
        close_s: float = 5.0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._close_s = close_s
        self._metrics = LogMetrics(registry)
        self._rows = WaitingRows(settings.max_waiting, self._metrics.lost.inc)
        self._metrics.waiting.set_function(lambda: len(self._rows))
        self._loggers = Loggers(clock.now_ms)
        self._own = self._loggers.make(_Beyond(self._rows), component="LogHandler", file="LogHandler")
        self._written = 0
        self._trouble = ""
        self._is_closed = False
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def statistics(self) -> LogStatistics:
        """How it stands."""
        return LogStatistics(
            written=self._written,
            waiting=len(self._rows),
            lost=self._rows.lost,
            store_trouble=self._trouble,
        )

    def logger(self, *, component: str, file: str) -> ActivityLogger:
        """A logger whose rows name this component and file, such as `Authentication`, `AmpFacadeAPI`."""
        return self._loggers.make(self, component=component, file=file)

    def start(self) -> None:
        """Begin to write and to purge, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._purge())]
        self._wake.set()

    async def close(self) -> None:
        """Write what waits, for a bounded time; what can't be written is counted, and said."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._close_s):
                await self._write_all()
        self._is_closed = True
        left = len(self._rows)
        self._rows.remove(left, written=False)
        if unsaid := self._rows.take_unsaid():
            _say(_log.error, "log_rows_lost", rows=unsaid, not_written=left, reason=self._trouble)

    def put(self, row: LogRow) -> None:
        """Take a row from any thread; never waits."""
        if self._is_closed:
            self._rows.lose()
        elif self._rows.put(row) and self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)
        if row.level is Level.FATAL:
            _tell(_log.critical, row)
        elif row.level is Level.ERROR:
            _tell(_log.error, row)

    def miss(self) -> None:
        """Count a row that could not be made."""
        self._rows.lose()

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._write_all()

    async def _write_all(self) -> None:
        """Until nothing waits, with rests while the store is away."""
        rest = _FIRST_REST_S
        while self._rows:
            if await self._write_some():
                rest = _FIRST_REST_S
            else:
                await self._clock.sleep(rest)
                rest = min(2 * rest, _LONGEST_REST_S)

    async def _write_some(self) -> bool:
        """Whether the oldest rows are off the queue; what the store does not want at all is given up."""
        rows = self._rows.oldest(_WRITTEN_TOGETHER)
        try:
            await self._store.append(rows)
        except StorageError as error:
            self._is_away(error)
            return False
        except Exception as error:  # noqa: BLE001  # the same rows would fail for ever
            _say(_log.error, "log_rows_refused", rows=len(rows), exc_info=error)
            self._rows.remove(len(rows), written=False)
        else:
            self._has_written(rows)
        return True

    def _has_written(self, rows: list[LogRow]) -> None:
        self._rows.remove(len(rows), written=True)
        self._written += len(rows)
        self._metrics.count(rows)
        if self._trouble:
            self._trouble = ""
            _say(_log.info, "log_store_back", waiting=len(self._rows))
        if unsaid := self._rows.take_unsaid():
            self._own.warning("Log rows were lost", lost=unsaid)

    def _is_away(self, error: StorageError) -> None:
        if not self._trouble:
            _say(_log.warning, "log_store_away", reason=str(error))
        self._trouble = str(error)

    async def _purge(self) -> None:
        """By the hour, in small steps, so that writes come between."""
        while True:
            try:
                while await self._store.purge(self._clock.now_ms()):
                    await self._clock.sleep(_BETWEEN_PURGES_S)
            except StorageError as error:
                _say(_log.warning, "log_not_purged", reason=str(error))
            except Exception as error:  # noqa: BLE001  # a bug of one step must not end all others
                _say(_log.error, "log_not_purged", exc_info=error)
            await self._clock.sleep(_PURGE_EVERY_S)


class _Beyond:
    """The intake of the handler's own rows, which tell of a full queue."""

    def __init__(self, rows: WaitingRows) -> None:
        self._rows = rows

    def put(self, row: LogRow) -> None:
        """Take one, limit or not."""
        self._rows.put_beyond(row)

    def miss(self) -> None:
        """Count one that could not be made."""
        self._rows.lose()


def _tell(say: Callable[..., object], row: LogRow) -> None:
    """Show a row on standard error."""
    _say(
        say,
        "log_row",
        message=row.message,
        user_id=row.user_id,
        component=row.source_component,
        file=row.source_file,
        line=row.source_line,
        additional_info=row.additional_info,
    )


def _say(say: Callable[..., object], event: str, **values: object) -> None:
    """Say it on standard error; that it is closed is no reason to fail."""
    with suppress(Exception):
        say(event, **values)
