"""The stores that must behave alike, each behind the same few calls."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from storage.base import Quarantine, ReadingStore, TableWriter
from storage.cassandra.connect import Connected
from storage.cassandra.counting import CassandraBooks
from storage.cassandra.quarantine import CassandraQuarantine
from storage.cassandra.reader import CassandraReadingStore
from storage.cassandra.schema import TABLES
from storage.cassandra.tables import create_tables
from storage.cassandra.writer import CassandraTableWriter
from storage.memory import MemoryQuarantine, MemoryReadingStore, MemoryTables, MemoryTableWriter
from storage.reconcile import Books
from storage.settings import CassandraSettings, RejectQuota
from storage.sqlite.books import SqliteBooks
from storage.sqlite.quarantine import SqliteQuarantine
from storage.sqlite.reader import SqliteReadingStore
from storage.sqlite.writer import SqliteTableWriter


class Store(Protocol):
    """One set of tables, which can be opened any number of times."""

    def writer(self) -> TableWriter:
        """Open the writing side."""
        ...

    def reader(self) -> ReadingStore:
        """Open the reading side."""
        ...

    def quarantine(self) -> Quarantine:
        """Open the quarantine."""
        ...


class CheckedStore(Store, Protocol):
    """One whose rows can be counted and held against its books."""

    def books(self) -> Books:
        """Open the books."""
        ...


class MemoryStore:
    """The reference."""

    def __init__(self, _folder: Path, quota: RejectQuota) -> None:
        self._tables = MemoryTables()
        self._quota = quota

    def writer(self) -> TableWriter:
        """Open the writing side."""
        return MemoryTableWriter(self._tables, self._quota)

    def reader(self) -> ReadingStore:
        """Open the reading side."""
        return MemoryReadingStore(self._tables)

    def quarantine(self) -> Quarantine:
        """Open the quarantine."""
        return MemoryQuarantine(self._tables)


class SqliteStore:
    """The embedded database, in a file."""

    def __init__(self, folder: Path, quota: RejectQuota) -> None:
        self.path = folder / "headrace.db"
        self._quota = quota

    def writer(self) -> TableWriter:
        """Open the writing side."""
        return SqliteTableWriter(self.path, self._quota)

    def reader(self) -> ReadingStore:
        """Open the reading side."""
        return SqliteReadingStore(self.path)

    def quarantine(self) -> Quarantine:
        """Open the quarantine."""
        return SqliteQuarantine(self.path)

    def books(self) -> Books:
        """Open the books."""
        return SqliteBooks(self.path)


class CassandraStore:
    """Tables on a cluster, emptied for each test."""

    def __init__(self, _folder: Path, quota: RejectQuota, settings: CassandraSettings) -> None:
        self.settings = settings
        self._quota = quota
        self._empty()

    def writer(self) -> CassandraTableWriter:
        """Open the writing side."""
        return CassandraTableWriter(self.settings, self._quota, recount_s=0.0)

    def reader(self) -> ReadingStore:
        """Open the reading side."""
        return CassandraReadingStore(self.settings, deadline_s=30.0)

    def quarantine(self) -> Quarantine:
        """Open the quarantine."""
        return CassandraQuarantine(self.settings)

    def books(self) -> Books:
        """Open the books."""
        return CassandraBooks(self.settings)

    def _empty(self) -> None:
        connected = Connected(self.settings)
        create_tables(connected, None)
        for table in TABLES:
            connected.execute(f"TRUNCATE {table}")
        connected.close()


EMBEDDED: dict[str, Callable[[Path, RejectQuota], Store]] = {"memory": MemoryStore, "sqlite": SqliteStore}
