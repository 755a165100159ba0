"""Opening the database file, transactions on it, and what its errors mean to a store.

A commit is durable when it returns (`synchronous=FULL`), because the journal is trimmed behind it. The
write-ahead log is emptied by the writer's own commits (`storage.sqlite.checkpoint`); one that a long reader
made grow is cut back to `_WAL_BYTES` when the reader is gone and the log begins anew.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from storage.errors import (
    SchemaError,
    StorageError,
    StoreBusyError,
    StoreFullError,
    StoreSlowError,
    StoreUnavailableError,
)
from storage.sqlite.checkpoint import Checkpointer
from storage.sqlite.schema import READINGS, Tables, check_tables, create_tables, is_blank

_BUSY_MS: Final = 5_000
_BUSY_REST_S: Final = 0.01
_PAGE_BYTES: Final = 4_096
_CACHE_KIB: Final = 16_384
_WAL_BYTES: Final = 64 << 20

_MEANINGS: Final[dict[type[apsw.Error], tuple[type[StorageError], str]]] = {
    apsw.FullError: (StoreFullError, "make room on its disk"),
    apsw.BusyError: (StoreBusyError, "another program is writing to it"),
    apsw.LockedError: (StoreBusyError, "another program is writing to it"),
    apsw.InterruptError: (StoreSlowError, "it took too long; ask for less"),
    apsw.IOError: (StoreUnavailableError, "see to its disk"),
    apsw.CantOpenError: (StoreUnavailableError, "see that it is there and may be opened"),
    apsw.PermissionsError: (StoreUnavailableError, "see that it may be opened"),
    apsw.ReadOnlyError: (StoreUnavailableError, "see that it and its folder may be written"),
    apsw.NoMemError: (StoreUnavailableError, "free some memory"),
    apsw.ProtocolError: (StoreBusyError, "another program is recovering it"),
    apsw.CorruptError: (SchemaError, "it is damaged; put a backup in its place"),
    apsw.NotADBError: (SchemaError, "set {setting} to a file of its own"),
}
_UNKNOWN: Final = (StorageError, "nothing was changed")


@contextmanager
def translated(path: Path, setting: str = READINGS.setting) -> Iterator[None]:
    """Turn SQLite's errors into those of a store, naming the file."""
    try:
        yield
    except apsw.Error as error:
        kind, advice = _MEANINGS.get(type(error), _UNKNOWN)
        raise kind(f"{path}: {error}; {advice.format(setting=setting)}") from error
    except OSError as error:
        raise StoreUnavailableError(f"{path}: {error.strerror}") from error


@contextmanager
def transaction(connection: apsw.Connection, path: Path, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """All or nothing; durable when it is left."""
    with translated(path):
        connection.execute(begin)
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def open_for_writing(path: Path, tables: Tables = READINGS) -> apsw.Connection:
    """Open the database, made with its tables where there is none; only its owner may read the file.

    Raises:
        SchemaError: the file is not ours to write.
        StorageError: it can't be opened.
    """
    with translated(path, tables.setting):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(_BUSY_MS)
        try:
            _prepare(connection, path, tables)
        except BaseException:
            connection.close()
            raise
    return connection


def open_for_reading(path: Path, tables: Tables = READINGS, *, busy_ms: int = _BUSY_MS) -> apsw.Connection:
    """Open an existing database to read from it.

    Raises:
        SchemaError: the file does not hold the tables that this program knows.
        StoreUnavailableError: there is no such file, or it can't be opened.
    """
    with translated(path, tables.setting):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(busy_ms)
        try:
            check_tables(connection, path, tables)
        except BaseException:
            connection.close()
            raise
    return connection


def _begin_wal(connection: apsw.Connection) -> None:
    """Change to WAL, patiently: of two who make a file at once, SQLite refuses one without waiting."""
    deadline = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            connection.pragma("journal_mode", "wal")
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_BUSY_REST_S)
        else:
            return


def _prepare(connection: apsw.Connection, path: Path, tables: Tables) -> None:
    if is_blank(connection):
        connection.pragma("page_size", _PAGE_BYTES)
    else:
        check_tables(connection, path, tables)
    # The change to WAL is itself a transaction with a rollback journal. EXTRA syncs the folder once that
    # is deleted: were it back after a power cut, it would take the file to a time before the WAL.
    connection.pragma("synchronous", "extra")
    _begin_wal(connection)
    connection.pragma("synchronous", "full")
    connection.pragma("cache_size", -_CACHE_KIB)
    connection.pragma("journal_size_limit", _WAL_BYTES)
    connection.set_wal_hook(Checkpointer(_WAL_BYTES, _PAGE_BYTES, _BUSY_MS))
    with transaction(connection, path):
        create_tables(connection, path, tables)
