"""Asking a cluster on the loop: every call waits, none blocks it.

The driver has a thread of its own for its sockets; answers are handed to the loop from there. A deadline
runs from the moment a call is made, and every answer comes in pages. The cluster is opened once for all
callers: one that gives up waiting for it leaves the opening to those who come later. The driver looks contact
points up only then, and goes on trying the addresses it got; so when no node has been reached for a while the
cluster is opened anew, as its nodes may have come back elsewhere.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

from cassandra.cluster import NoHostAvailable
from cassandra.query import BatchStatement, BatchType

from storage.cassandra.connect import Connected, consistency
from storage.cassandra.meaning import meaning
from storage.errors import StoreSlowError
from storage.settings import CassandraSettings

T = TypeVar("T")

_AT_ONCE: Final = 8
_QUESTIONS: Final = 64
_PAGE_ROWS: Final = 10_000
_LOST_S: Final = 10.0
"""For so long no node is to be reached before the cluster is opened anew."""


class Asker:
    """A cluster, reached at the first question; `prepare` is called then, in a thread.

    Every call may raise StoreSlowError after `deadline_s`, and what connecting and preparing may raise.
    """

    def __init__(
        self, settings: CassandraSettings, prepare: Callable[[Connected], None], *, deadline_s: float = 5.0
    ) -> None:
        self._settings = settings
        self._prepare = prepare
        self._deadline_s = deadline_s
        self._opening: asyncio.Future[Connected] | None = None
        self._preparing: Connected | None = None
        self._lost_since: float | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._questions = asyncio.Semaphore(_QUESTIONS)

    async def within(self, answer: Coroutine[Any, Any, T]) -> T:
        """The answer, if it comes before the deadline."""
        try:
            async with asyncio.timeout(self._deadline_s):
                return await answer
        except TimeoutError as error:
            raise StoreSlowError(f"no answer of the cluster within {self._deadline_s} s") from error

    async def ask(self, cql: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of a statement, page by page."""
        connected = await self._ready(cql)
        statement = connected.bound(cql, *values)
        statement.consistency_level = consistency(self._settings)
        statement.fetch_size = _PAGE_ROWS
        return await self._send(connected, statement)

    async def write_together(self, cql: str, rows: Iterable[Sequence[object]]) -> None:
        """The statement once with each of these values, in one batch; all of one partition, or it is slow."""
        connected = await self._ready(cql)
        batch = BatchStatement(BatchType.UNLOGGED)
        for values in rows:
            batch.add(connected.put(cql, *values))
        await self._send(connected, batch)

    async def connect(self) -> Connected:
        """The session, opened once."""
        if self._opening is None or _has_failed(self._opening):
            self._opening = asyncio.ensure_future(asyncio.to_thread(self._open))
        return await asyncio.shield(self._opening)

    async def close(self) -> None:
        """Let go of the cluster; of one that is being prepared too, which may have to wait for its nodes."""
        opening, self._opening = self._opening, None
        if self._closing:
            await asyncio.wait(self._closing)
        if opening is None:
            return
        if not opening.done():
            if self._preparing is not None:
                await asyncio.to_thread(self._preparing.close)
            await asyncio.wait([opening])
        if not _has_failed(opening):
            await asyncio.to_thread(opening.result().close)

    async def _ready(self, cql: str) -> Connected:
        connected = await self.connect()
        if not connected.is_prepared(cql):
            await asyncio.to_thread(connected.prepared, cql)
        return connected

    async def _send(self, connected: Connected, statement: Any) -> list[tuple[Any, ...]]:
        async with self._questions:
            try:
                answer = await _answer(connected, statement)
            except Exception as error:
                if isinstance(error, NoHostAvailable):
                    self._is_lost(connected)
                raise meaning(self._settings, error) from error
            self._lost_since = None
            return answer

    def _is_lost(self, connected: Connected) -> None:
        """Let go of a cluster of which no node has been reached for long; the next question opens it anew."""
        now = asyncio.get_running_loop().time()
        self._lost_since = self._lost_since or now
        opening = self._opening
        if now < self._lost_since + _LOST_S or opening is None or _has_failed(opening):
            return
        if opening.done() and opening.result() is connected:
            self._opening = self._lost_since = None
            closing = asyncio.create_task(asyncio.to_thread(connected.close))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _open(self) -> Connected:
        connected = self._preparing = Connected(self._settings)
        try:
            self._prepare(connected)
        except BaseException:
            connected.close()
            raise
        finally:
            self._preparing = None
        return connected


def _has_failed(opening: "asyncio.Future[Connected]") -> bool:
    return opening.done() and (opening.cancelled() or opening.exception() is not None)


async def all_of(asked: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All answers, in the order of the questions."""
    return [answer async for answer in in_order(asked)]


async def in_order(asked: Iterable[Coroutine[Any, Any, T]]) -> AsyncIterator[T]:
    """The answers in the order of the questions, of which a few are asked ahead."""
    questions = iter(asked)
    waiting = [asyncio.ensure_future(question) for question in islice(questions, _AT_ONCE)]
    try:
        while waiting:
            yield await waiting.pop(0)
            waiting += [asyncio.ensure_future(question) for question in islice(questions, 1)]
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


class _Pages:
    """The pages of one answer; the driver calls from its thread, the loop gets the whole."""

    def __init__(self, future: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._future = future
        self._loop = loop
        self._rows: list[tuple[Any, ...]] = []
        self.answer: asyncio.Future[list[tuple[Any, ...]]] = loop.create_future()
        future.add_callbacks(self._page, self._failed)

    def _page(self, rows: Iterable[tuple[Any, ...]] | None) -> None:
        self._rows += rows or ()  # a write has none
        if self._future.has_more_pages and not self.answer.cancelled():
            self._future.start_fetching_next_page()
        else:
            self._tell(self._done)

    def _failed(self, error: BaseException) -> None:
        self._tell(self._fail, error)

    def _tell(self, what: Callable[..., None], *values: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what, *values)

    def _done(self) -> None:
        if not self.answer.done():
            self.answer.set_result(self._rows)

    def _fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


async def _answer(connected: Connected, statement: Any) -> list[tuple[Any, ...]]:
    future = connected.session.execute_async(statement)
    return await _Pages(future, asyncio.get_running_loop()).answer
