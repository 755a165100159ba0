"""`headrace db copy`: from the embedded database to a cluster, while the server is stopped."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from headrace import reconcile
from headrace.config import Config
from headrace.errors import ConfigError, FailedError
from ingest.errors import JournalError, JournalLockedError
from ingest.journal import held, journals_under
from storage.copying import SETTLING, Copied, Step, Tell, copy_tables
from storage.errors import StorageError
from storage.sqlite.connect import open_for_reading

_AGAIN: Final = "what is copied stays; run the same command again, and it goes on from there"
_EVERY_S: Final = 5.0
_NEXT: Final = """To go on with the cluster, change the configuration to

    [storage]
    backend = "cassandra"

and start the server. Nothing is written to {path} any more; keep it until you don't need it."""


def run(config: Config, source: str, target: str) -> None:
    """Copy, count the rows against the books, and say what comes next.

    Raises:
        ConfigError: it can't be copied so.
        StorageError: source or target are not such that it could be.
        FailedError: it was not finished, or something doesn't add up.
    """
    if (source, target) != ("sqlite", "cassandra"):
        raise ConfigError(f"--from {source} --to {target}: only --from sqlite --to cassandra can be copied")
    path = Path(config.storage.sqlite.path)
    open_for_reading(path).close()
    with _journal_held(Path(config.journal.path)) as journal:
        copied = _copy(config, journal)
        if copied.already:
            click.echo("everything is copied already; nothing was changed")
        else:
            click.echo("copied: " + ", ".join(f"{rows} {table}" for table, rows in copied.rows.items()))
            _count(config)
    click.echo(_NEXT.format(path=path))


@contextmanager
def _journal_held(folder: Path) -> Iterator[str]:
    """The id of the journal, or of the first worker's; as long as we have all, no server writes from one."""
    try:
        folders = [found.folder for found in journals_under(folder)] or [folder]
        with ExitStack() as stack:
            first, *_ = [stack.enter_context(held(place)) for place in folders]
            yield first.journal
    except JournalLockedError as error:
        raise ConfigError(str(error)) from None
    except JournalError as error:
        raise ConfigError(
            f"{error}; set [journal] path to the one that the embedded database was written from"
        ) from error


def _copy(config: Config, journal: str) -> Copied:
    try:
        with _showing() as tell:
            return copy_tables(config.storage, journal, tell)
    except StorageError as error:
        if not error.retriable:
            raise
        raise FailedError(f"{error}; {_AGAIN}") from error
    except KeyboardInterrupt:
        raise FailedError(f"interrupted; {_AGAIN}") from None


def _count(config: Config) -> None:
    """Hold the rows in the cluster against their books."""
    storage = msgspec.structs.replace(config.storage, backend="cassandra")
    try:
        result = reconcile.run(msgspec.structs.replace(config, storage=storage))
    except StorageError as error:
        raise FailedError(
            f'{error}; all is copied, but could not be counted: set [storage] backend = "cassandra" and run'
            " `headrace reconcile`"
        ) from error
    click.echo(reconcile.summary(result))
    for finding in result.findings:
        click.echo(f"- {finding}")
    if result.findings:
        raise FailedError(
            f"{len(result.findings)} things don't add up in the cluster; see whether they do in the embedded"
            ' database: `headrace reconcile` with [storage] backend = "sqlite"'
        )


@contextmanager
def _showing() -> Iterator[Tell]:
    """Progress on standard error: bars on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (TextColumn("{task.description:16}"), BarColumn(bar_width=30), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[shown]}"), console=console) as progress:
        yield _Bars(progress)


class _Rate:
    """Rows a second of each table, since it was heard of first."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[int, float]] = {}

    def of(self, step: Step) -> float:
        """The rate up to this step; of the first one nothing is known."""
        done, at = self._first.setdefault(step.table, (step.done, time.monotonic()))
        return (step.done - done) / max(time.monotonic() - at, 1e-9)


class _Lines:
    """A line every few seconds."""

    def __init__(self) -> None:
        self._rate = _Rate()
        self._said = time.monotonic()

    def __call__(self, step: Step) -> None:
        """Say it, if nothing was said for a while."""
        shown = _shown(step, self._rate.of(step))
        if step.table == SETTLING or time.monotonic() >= self._said + _EVERY_S:
            self._said = time.monotonic()
            click.echo(f"{step.table}: {shown}", err=True)


class _Bars:
    """A bar for each table."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._rate = _Rate()
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: Step) -> None:
        """Move the table's bar."""
        if step.table not in self._tasks:
            self._tasks[step.table] = self._progress.add_task(step.table, shown="")
        shown = _shown(step, self._rate.of(step))
        task = self._tasks[step.table]
        self._progress.update(task, completed=step.done, total=step.total, shown=shown)


def _shown(step: Step, rate: float) -> str:
    if step.table == SETTLING:
        return "waiting until the cluster can't forget any of it"
    speed = f", {rate:,.0f}/s" if rate else ""
    return f"{step.done:,} of {step.total:,} rows{speed}"
