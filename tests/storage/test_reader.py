"""The reading side of SQLite: short, bounded in time, and never in the way of the event loop."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from storage.base import Position
from storage.errors import StoreSlowError
from storage.sqlite import reader as reader_module
from storage.sqlite.reader import SqliteReadingStore
from storage.sqlite.writer import SqliteTableWriter
from tests.storage.building import JOURNAL, Machinery, record

EVER = 1 << 62
ROWS = 20_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "headrace.db"


@pytest.fixture
def machinery() -> Machinery:
    return Machinery()


@pytest.fixture
def writer(path: Path, machinery: Machinery) -> Iterator[SqliteTableWriter]:
    """A writer that has written one device's rows, several pages of the reader."""
    writer = SqliteTableWriter(path)
    writer.claim(machinery.node, JOURNAL, adopt=False)
    blocks = [machinery.block([(1, record("E0001", float(step)) * 100)]) for step in range(ROWS // 100)]
    writer.write(None, blocks, JOURNAL)
    yield writer
    writer.close()


async def test_a_long_history_is_whole_and_in_order(path: Path, writer: SqliteTableWriter) -> None:
    """Rows of one millisecond that fall on two pages of the reader are neither lost nor doubled."""
    assert writer
    store = SqliteReadingStore(path)
    rows = await store.history("E0001", 0, EVER, limit=ROWS + 1)
    assert len(rows) == ROWS
    positions = [Position(row.received_at, row.seq) for row in rows]
    assert positions == sorted(set(positions), reverse=True)
    assert await store.history("E0001", 0, EVER, limit=4_097) == rows[:4_097]
    await store.close()


async def test_a_history_is_read_at_one_moment(
    path: Path, writer: SqliteTableWriter, machinery: Machinery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows deleted between two pages are in the answer all the same."""
    real, purged = reader_module._one, []

    def purge_meanwhile(*arguments: object) -> str:
        text: str = real(*arguments)  # type: ignore[arg-type]  # handed on as they came
        while deleted := writer.purge(machinery.at + 60_000):
            purged.append(deleted)
        return text

    monkeypatch.setattr(reader_module, "_one", purge_meanwhile)
    store = SqliteReadingStore(path)
    assert len(await store.history("E0001", 0, EVER, limit=ROWS)) == ROWS
    assert sum(purged) > ROWS
    assert await store.history("E0001", 0, EVER, limit=ROWS) == []
    await store.close()


async def test_a_read_ends_at_its_deadline(path: Path, writer: SqliteTableWriter) -> None:
    """What takes too long is broken off and said, and the next read works."""
    assert writer
    store = SqliteReadingStore(path, deadline_s=0.2)

    def never_done(connection: apsw.Connection) -> None:
        connection.execute(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers)"
            " SELECT count(*) FROM numbers"
        ).fetchall()

    with pytest.raises(StoreSlowError) as error:
        await store._readers.ask(never_done)
    assert error.value.retriable
    assert await store.latest("E0001") is not None
    await store.close()


async def test_a_read_that_waits_too_long_for_its_turn_is_not_begun(
    path: Path, writer: SqliteTableWriter
) -> None:
    """Behind slow readers the deadline counts from the call, so a queue of old calls works itself off."""
    assert writer
    store = SqliteReadingStore(path, threads=1, deadline_s=0.05)
    gate = threading.Event()
    slow = asyncio.ensure_future(store._readers.ask(lambda _: gate.wait()))
    waiting = asyncio.ensure_future(store.latest("E0001"))
    await asyncio.sleep(0.1)
    gate.set()
    assert await slow
    with pytest.raises(StoreSlowError, match="too many readers"):
        await waiting
    await store.close()


async def test_closing_does_not_wait_for_a_long_read(path: Path, writer: SqliteTableWriter) -> None:
    """A read under way is broken off; the event loop goes on meanwhile."""
    assert writer
    store = SqliteReadingStore(path, deadline_s=60)
    begun = threading.Event()

    def never_done(connection: apsw.Connection) -> None:
        begun.set()
        connection.execute(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers)"
            " SELECT count(*) FROM numbers"
        ).fetchall()

    reading = asyncio.ensure_future(store._readers.ask(never_done))
    await asyncio.to_thread(begun.wait)
    await store.close()
    with pytest.raises(StoreSlowError):
        await reading


async def test_the_event_loop_goes_on_while_rows_are_read(path: Path, writer: SqliteTableWriter) -> None:
    """Other tasks take turns while a history is fetched, many times over."""
    assert writer
    store = SqliteReadingStore(path)
    reading = asyncio.gather(*(store.history("E0001", 0, EVER, limit=ROWS) for _ in range(4)))
    turns = 0
    while not reading.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 100
    assert [len(rows) for rows in await reading] == [ROWS] * 4
    await store.close()


async def test_a_busy_interpreter_does_not_make_reading_crawl(path: Path, writer: SqliteTableWriter) -> None:
    """Beside a thread that never lets go by itself a page costs a few turns, not one for each row.

    A turn is 5 ms of the interpreter: row by row, these rows would take more than a minute.
    """
    assert writer
    store = SqliteReadingStore(path, deadline_s=60)
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            pass

    busy = threading.Thread(target=keep_busy)
    busy.start()
    begun = time.monotonic()
    assert len(await store.history("E0001", 0, EVER, limit=ROWS)) == ROWS
    took = time.monotonic() - begun
    stop.set()
    await asyncio.to_thread(busy.join)
    assert took < ROWS * 0.005 / 10
    await store.close()
