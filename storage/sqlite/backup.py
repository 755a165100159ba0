"""A copy of the database while it is written: whole, checked, and in place all at once.

The copy is made within one read transaction, so it is the tables at one moment however long it takes.
Until it is done the write-ahead log can't be emptied and grows by what is written meanwhile; afterwards it
shrinks again. The copy is one file that needs no other beside it.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import apsw

from storage.errors import StorageError, StoreUnavailableError
from storage.sqlite.connect import open_for_reading, transaction, translated
from storage.sqlite.schema import READINGS, Tables
from storage.syncing import sync

_STEP_PAGES: Final = 2_048


def backup(
    source: Path,
    target: Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    tables: Tables = READINGS,
) -> None:
    """Copy the database with these tables to `target`, which only a whole and checked copy replaces.

    `progress` is told pages done and pages in all, after each step.

    Raises:
        StoreFullError: there is no room for the copy.
        StorageError: the source can't be read, or the copy is not sound.
    """
    if target.exists() and target.samefile(source):
        raise StorageError(f"{target}: is the database itself; name another file for the copy")
    part = target.with_name(target.name + ".part")
    try:
        _copy(source, part, tables, progress or _ignore)
        _put_in_place(part, target)
    finally:
        part.unlink(missing_ok=True)


def _copy(source: Path, part: Path, tables: Tables, progress: Callable[[int, int], None]) -> None:
    origin = open_for_reading(source, tables)
    try:
        with transaction(origin, source, "BEGIN"), translated(part):
            copy = _create(part)
            try:
                _copy_pages(origin, copy, progress)
                copy.pragma("journal_mode", "delete")
                _check(copy, part)
            finally:
                copy.close()
    finally:
        origin.close()


def _create(part: Path) -> apsw.Connection:
    os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
    return apsw.Connection(str(part), flags=apsw.SQLITE_OPEN_READWRITE)


def _copy_pages(origin: apsw.Connection, copy: apsw.Connection, progress: Callable[[int, int], None]) -> None:
    origin.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # takes the snapshot that the steps share
    with copy.backup("main", origin, "main") as steps:
        while not steps.done:
            steps.step(_STEP_PAGES)
            progress(steps.page_count - steps.remaining, steps.page_count)


def _check(copy: apsw.Connection, part: Path) -> None:
    verdict = copy.pragma("integrity_check")
    if verdict != "ok":
        raise StorageError(f"{part}: the copy is not sound: {verdict}; the database may be damaged")


def _put_in_place(part: Path, target: Path) -> None:
    """Make the copy durable under its own name."""
    try:
        sync(part)
        part.rename(target)
        sync(target.parent)
    except OSError as error:
        raise StoreUnavailableError(f"{target}: {error.strerror}") from error


def _ignore(_done: int, _pages: int) -> None:
    pass
