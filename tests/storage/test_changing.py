"""A file that is read and changed on the loop: what shares a commit, what a failure takes with it."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from storage.errors import SchemaError, StorageError
from storage.sqlite.changing import Database
from storage.sqlite.schema import Tables

TABLES = Tables(0x1234, 1, ("CREATE TABLE numbers (n INTEGER PRIMARY KEY) STRICT",), "numbers.path")


def add(number: int) -> Callable[[apsw.Connection], object]:
    """A change that inserts a number, or fails where it is there already."""
    return lambda connection: connection.execute("INSERT INTO numbers (n) VALUES (?)", (number,)).fetchall()


def numbers(connection: apsw.Connection) -> list[int]:
    """All that there are."""
    return [int(str(n)) for (n,) in connection.execute("SELECT n FROM numbers ORDER BY n")]


async def test_one_that_fails_takes_nothing_with_it(tmp_path: Path) -> None:
    """Of changes that share a commit."""
    database = Database(tmp_path / "numbers.db", TABLES)
    outcomes = await asyncio.gather(*(database.change(add(n)) for n in (1, 2, 2, 3)), return_exceptions=True)
    assert [isinstance(outcome, StorageError) for outcome in outcomes] == [False, False, True, False]
    assert await database.read(numbers) == [1, 2, 3]
    await database.close()


async def test_a_change_that_raises_is_undone(tmp_path: Path) -> None:
    """The caller gets what it raised."""
    database = Database(tmp_path / "numbers.db", TABLES)

    def half(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO numbers (n) VALUES (1)")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.change(half)
    assert await database.read(numbers) == []
    await database.close()


async def test_many_changes_share_few_commits(tmp_path: Path) -> None:
    """Those that wait while one is under way."""
    database = Database(tmp_path / "numbers.db", TABLES)
    commits = 0

    def count(_: apsw.Connection, __: str, ___: int) -> int:
        nonlocal commits
        commits += 1
        return apsw.SQLITE_OK

    await database.change(lambda connection: connection.set_wal_hook(count))
    await asyncio.gather(*(database.change(add(n)) for n in range(500)))
    assert commits < 50
    assert len(await database.read(numbers)) == 500
    await database.close()


async def test_what_can_be_made_again_need_not_wait_for_the_disk(tmp_path: Path) -> None:
    """Unless it shares its commit with what can't."""
    database = Database(tmp_path / "numbers.db", TABLES)

    def level(connection: apsw.Connection) -> int:
        return int(str(connection.pragma("synchronous")))

    full, normal = 2, 1
    assert await database.change(level) == full
    assert await database.change(level, durable=False) == normal
    shared = await asyncio.gather(*(database.change(level, durable=n == 3) for n in range(5)))
    assert shared[3] == full
    assert await database.change(level) == full
    await database.close()


async def test_closing_makes_what_waits_and_leaves_one_file(tmp_path: Path) -> None:
    """Also after it was read."""
    database = Database(tmp_path / "numbers.db", TABLES)
    assert await database.read(numbers) == []
    waiting = [asyncio.ensure_future(database.change(add(n))) for n in range(10)]
    await asyncio.sleep(0)
    await database.close()
    await asyncio.gather(*waiting)
    assert os.listdir(tmp_path) == ["numbers.db"]  # noqa: PTH208  # pathlib's would block the loop as well
    again = Database(tmp_path / "numbers.db", TABLES)
    assert await again.read(numbers) == list(range(10))
    await again.close()


async def test_a_file_of_another_purpose_is_refused(tmp_path: Path) -> None:
    """The key of the configuration is named; every call says so."""
    other = TABLES._replace(application_id=0x4321)
    first = Database(tmp_path / "numbers.db", other)
    await first.change(add(1))
    await first.close()
    database = Database(tmp_path / "numbers.db", TABLES)
    for _ in range(2):
        with pytest.raises(SchemaError, match=r"set numbers\.path to a file of its own"):
            await database.read(numbers)
    await database.close()
