"""The stores that must behave alike, each behind the same few calls."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from storage.base import Quarantine, ReadingStore, TableWriter
from storage.memory import MemoryQuarantine, MemoryReadingStore, MemoryTables, MemoryTableWriter
from storage.settings import RejectQuota
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


STORES: dict[str, Callable[[Path, RejectQuota], Store]] = {"memory": MemoryStore, "sqlite": SqliteStore}
