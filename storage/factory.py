"""The store that the configuration asks for."""

from pathlib import Path

from storage.base import Quarantine, ReadingStore, TableWriter
from storage.settings import StorageSettings
from storage.sqlite.quarantine import SqliteQuarantine
from storage.sqlite.reader import SqliteReadingStore
from storage.sqlite.writer import SqliteTableWriter


def open_writer(settings: StorageSettings) -> TableWriter:
    """The writing side; the tables are made where there are none.

    Raises:
        StorageError: the database can't be opened, or is none of ours.
    """
    return SqliteTableWriter(Path(settings.sqlite.path), settings.rejects)


def open_store(settings: StorageSettings) -> ReadingStore:
    """The reading side.

    Raises:
        StorageError: the database can't be opened, or is none of ours.
    """
    return SqliteReadingStore(Path(settings.sqlite.path))


def open_quarantine(settings: StorageSettings) -> Quarantine:
    """The rejects, to judge them again.

    Raises:
        StorageError: the database can't be opened, or is none of ours.
    """
    return SqliteQuarantine(Path(settings.sqlite.path))
