"""The store that the configuration asks for.

Each branch imports its own: who runs on the embedded database never loads the driver of the other.
"""

from pathlib import Path

from storage.base import Quarantine, ReadingStore, TableWriter
from storage.reconcile import Books
from storage.settings import StorageSettings
from storage.sqlite.books import SqliteBooks
from storage.sqlite.quarantine import SqliteQuarantine
from storage.sqlite.reader import SqliteReadingStore
from storage.sqlite.writer import SqliteTableWriter


def open_writer(settings: StorageSettings) -> TableWriter:
    """The writing side; the tables are made where there are none.

    Raises:
        StorageError: the database can't be opened, or is none of ours.
    """
    if settings.backend == "cassandra":
        from storage.cassandra.writer import CassandraTableWriter  # noqa: PLC0415

        return CassandraTableWriter(settings.cassandra, settings.rejects, settings.keep_days)
    return SqliteTableWriter(Path(settings.sqlite.path), settings.rejects)


def open_store(settings: StorageSettings) -> ReadingStore:
    """The reading side.

    Raises:
        StorageError: the database can't be opened, or is none of ours.
    """
    if settings.backend == "cassandra":
        from storage.cassandra.reader import CassandraReadingStore  # noqa: PLC0415

        return CassandraReadingStore(settings.cassandra)
    return SqliteReadingStore(Path(settings.sqlite.path))


def open_quarantine(settings: StorageSettings) -> Quarantine:
    """The rejects, to judge them again.

    Raises:
        StorageError: the database can't be opened, or is none of ours.
    """
    if settings.backend == "cassandra":
        from storage.cassandra.quarantine import CassandraQuarantine  # noqa: PLC0415

        return CassandraQuarantine(settings.cassandra)
    return SqliteQuarantine(Path(settings.sqlite.path))


def open_books(settings: StorageSettings) -> Books:
    """The books and the rows that they are held against.

    Raises:
        StorageError: the database can't be opened, or is none of ours.
    """
    if settings.backend == "cassandra":
        from storage.cassandra.counting import CassandraBooks  # noqa: PLC0415

        return CassandraBooks(settings.cassandra, settings.keep_days)
    return SqliteBooks(Path(settings.sqlite.path))


def described(settings: StorageSettings) -> str:
    """How messages name the database."""
    if settings.backend == "cassandra":
        cluster = settings.cassandra
        return f"cassandra {','.join(cluster.contact_points)}:{cluster.port} {cluster.keyspace}"
    return settings.sqlite.path
