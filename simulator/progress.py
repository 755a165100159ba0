"""The progress bar: how far the run is, how fast, and what the server says of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from simulator.client import Statistics
from simulator.options import SimulateOptions

EVERY_S: Final = 0.25


@asynccontextmanager
async def showing(
    console: Console | None, options: SimulateOptions, statistics: Callable[[], Statistics]
) -> AsyncIterator[None]:
    """Show the run while the block runs, and once more at its end; nothing without a console."""
    if console is None:
        yield
        return
    with _progress(console, options) as progress:
        task = progress.add_task("", total=_total(options), rate=0.0, sent=0, acknowledged="", connected=0)
        show = _Shown(progress, task, options, statistics)
        watching = asyncio.get_running_loop().create_task(show.keep_on())
        try:
            yield
        finally:
            watching.cancel()
            show.once()


class _Shown:
    def __init__(
        self,
        progress: Progress,
        task: TaskID,
        options: SimulateOptions,
        statistics: Callable[[], Statistics],
    ) -> None:
        self._progress, self._task, self._options = progress, task, options
        self._statistics = statistics
        self._last = statistics()
        self._rate = 0.0

    async def keep_on(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            self.once()

    def once(self) -> None:
        now, last = self._statistics(), self._last
        if now.elapsed_s - last.elapsed_s >= EVERY_S:
            self._rate = (now.sent - last.sent) / (now.elapsed_s - last.elapsed_s)
            self._last = now
        self._progress.update(
            self._task,
            completed=now.sent if self._options.records is not None else now.elapsed_s,
            rate=self._rate,
            sent=now.sent,
            acknowledged=f"  {now.acknowledged:,} acknowledged" if self._options.ack else "",
            connected=now.connected,
        )


def _progress(console: Console, options: SimulateOptions) -> Progress:
    fields = "{task.fields[rate]:,.0f}/s  {task.fields[sent]:,} sent{task.fields[acknowledged]}"
    return Progress(
        TextColumn(f"{options.devices} machines"),
        BarColumn(bar_width=12),
        TimeElapsedColumn(),
        TextColumn(fields),
        TextColumn("{task.fields[connected]} up"),
        console=console,
        refresh_per_second=4,
    )


def _total(options: SimulateOptions) -> float | None:
    return options.records if options.records is not None else options.duration_s
