"""Reading from a SQLite file beside a loop: short read transactions in a few threads of its own.

A call's deadline runs from the moment it is made. While SQLite works, a progress handler looks at the
clock and ends what takes too long, so no reader holds back the write-ahead log for longer than that.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import apsw

from storage.errors import StorageError, StoreSlowError
from storage.sqlite.connect import open_for_reading, transaction
from storage.sqlite.schema import Tables

T = TypeVar("T")

_STEPS_BETWEEN_LOOKS: Final = 200_000


class Readers:
    """Readers of one file, opened at the first question."""

    def __init__(self, path: Path, tables: Tables, *, threads: int = 2, deadline_s: float = 5.0) -> None:
        self._path = path
        self._tables = tables
        self._deadline_s = deadline_s
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tables")
        self._own = threading.local()
        self._open: set[apsw.Connection] = set()
        self._closed = False

    async def ask(self, read: Callable[[apsw.Connection], T]) -> T:
        """What it reads, in one read transaction.

        Raises:
            StoreSlowError: it took longer than the deadline.
            StorageError: the file can't be opened or read.
        """
        deadline = time.monotonic() + self._deadline_s
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, read, deadline)

    async def close(self) -> None:
        """End what is still being read, and let go of the file."""
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)
        for connection in self._open:
            connection.close()
        self._open.clear()

    def _read(self, read: Callable[[apsw.Connection], T], deadline: float) -> T:
        """Answer in a thread of the pool, in one read transaction."""

        def is_over() -> bool:
            return self._closed or time.monotonic() > deadline

        if is_over():
            raise StoreSlowError(f"{self._path}: too many readers, no answer within {self._deadline_s} s")
        with self._connection() as connection:
            connection.set_progress_handler(is_over, _STEPS_BETWEEN_LOOKS)
            with transaction(connection, self._path, "BEGIN"):
                return read(connection)

    @contextmanager
    def _connection(self) -> Iterator[apsw.Connection]:
        """The thread's connection; one that failed is not used again."""
        connection: apsw.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = open_for_reading(self._path, self._tables, busy_ms=int(self._deadline_s * 1000))
            self._own.connection = connection
            self._open.add(connection)
        try:
            yield connection
        except StorageError:
            self._own.connection = None
            self._open.discard(connection)
            connection.close()
            raise
