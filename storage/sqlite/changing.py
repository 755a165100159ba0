"""Changing a SQLite file beside a loop: one thread, and one commit for all changes that wait together.

A commit waits for the disk (`synchronous=FULL`), so the changes that came while the one before was under
way share the next. Each is a savepoint of its own: one that fails takes nothing with it. A caller gets its
answer when its change is durable. One that says it can be made again need not wait for the disk, where all
that share its commit say so: the end of a process takes nothing of it, a power cut may.
"""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, NamedTuple, TypeVar

import apsw

from storage.errors import StorageError, StoreBusyError
from storage.sqlite.asking import Readers
from storage.sqlite.connect import open_for_writing, transaction, translated
from storage.sqlite.schema import Tables

T = TypeVar("T")

_TOGETHER: Final = 256
"""Changes in one commit, at most."""

_WAITING: Final = 10_000
"""Changes that may wait; above that a call is refused at once."""


class _Change(NamedTuple, Generic[T]):
    make: Callable[[apsw.Connection], T]
    answer: "asyncio.Future[T]"
    durable: bool


class Database:
    """One file that is read and changed on the loop; made with its tables at the first use.

    Raises:
        StorageError: every call, if the file can't be opened, read or written.
    """

    def __init__(self, path: Path, tables: Tables, *, deadline_s: float = 5.0) -> None:
        self._readers = Readers(path, tables, deadline_s=deadline_s)
        self._writer = _Writer(path, tables)
        self._is_made = False

    async def read(self, question: Callable[[apsw.Connection], T]) -> T:
        """What it finds, in one read transaction; StoreSlowError when that takes too long."""
        if not self._is_made:
            await self.change(lambda _: None)
        return await self._readers.ask(question)

    async def change(self, make: Callable[[apsw.Connection], T], *, durable: bool = True) -> T:
        """What the change gives, once everybody sees it; all of it or, where it raises, nothing."""
        answer = await self._writer.change(make, durable=durable)
        self._is_made = True
        return answer

    async def close(self) -> None:
        """Make the changes that wait, and let go of the file.

        Who reads can't put the write-ahead log back into the file, so the writer goes last.
        """
        await self._readers.close()
        await self._writer.close()


class _Writer:
    def __init__(self, path: Path, tables: Tables) -> None:
        self._path = path
        self._tables = tables
        self._waiting: SimpleQueue[_Change[Any] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: apsw.Connection | None = None

    async def change(self, make: Callable[[apsw.Connection], T], *, durable: bool) -> T:
        if self._waiting.qsize() >= _WAITING:
            raise StoreBusyError(f"{self._path}: {_WAITING} changes are waiting already")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"changes of {self._path}", daemon=True)
            self._thread.start()
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.put(_Change(make, answer, durable))
        return await answer

    async def close(self) -> None:
        if self._thread is not None:
            self._waiting.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    def _run(self) -> None:
        """Until told to end; what was put before that is still made."""
        more = True
        while more:
            changes: list[_Change[Any]] = []
            more = self._gather(changes)
            if changes:
                self._make(changes)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _gather(self, changes: list[_Change[Any]]) -> bool:
        """All that wait, and the first that comes; whether there may be more."""
        change = self._waiting.get()
        try:
            while change is not None:
                changes.append(change)
                if len(changes) == _TOGETHER:
                    return True
                change = self._waiting.get_nowait()
        except Empty:
            return True
        return False

    def _make(self, changes: list[_Change[Any]]) -> None:
        outcomes: list[Callable[[], None]] = []
        try:
            if self._connection is None:
                self._connection = open_for_writing(self._path, self._tables)
            with translated(self._path):
                is_safe = any(change.durable for change in changes)
                self._connection.pragma("synchronous", "full" if is_safe else "normal")
            with transaction(self._connection, self._path):
                outcomes = [self._outcome(self._connection, change) for change in changes]
        except StorageError as error:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            outcomes = [_failing(change, error) for change in changes]
        _tell(changes[0].answer.get_loop(), outcomes)

    def _outcome(self, connection: apsw.Connection, change: _Change[Any]) -> Callable[[], None]:
        """Make one change within the transaction; what to tell its caller after the commit."""
        try:
            with translated(self._path), connection:
                value = change.make(connection)
        except Exception as error:  # it is the caller's
            if not connection.in_transaction:  # a full or broken disk ends the whole of it
                raise StorageError(f"{self._path}: {error}") from error
            return _failing(change, error)
        return lambda: None if change.answer.done() else change.answer.set_result(value)


def _failing(change: _Change[Any], error: Exception) -> Callable[[], None]:
    return lambda: None if change.answer.done() else change.answer.set_exception(error)


def _tell(loop: asyncio.AbstractEventLoop, outcomes: list[Callable[[], None]]) -> None:
    def tell() -> None:
        for outcome in outcomes:
            outcome()

    if not loop.is_closed():
        loop.call_soon_threadsafe(tell)
