"""A cluster is opened once, for all who ask."""

import asyncio
import threading
from collections.abc import Callable
from typing import cast
from unittest.mock import patch

import pytest

from storage.cassandra import asking
from storage.cassandra.asking import Asker
from storage.cassandra.connect import Connected
from storage.errors import StoreSlowError, StoreUnavailableError
from storage.settings import CassandraSettings


class _Opened:
    """A cluster that knows only whether it was closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


def _asker(opens: Callable[[], _Opened]) -> Asker:
    asker = Asker(CassandraSettings(), lambda _: None, deadline_s=0.01)
    patch.object(asker, "_open", lambda: cast(Connected, opens())).start()
    return asker


async def test_who_gives_up_leaves_the_opening_to_the_next() -> None:
    """Its deadline is over; the cluster that it began to open is used by others, and closed."""
    may_open, opened = threading.Event(), _Opened()
    openings: list[_Opened] = []

    def opens() -> _Opened:
        may_open.wait(20)
        openings.append(opened)
        return opened

    asker = _asker(opens)
    with pytest.raises(StoreSlowError):
        await asker.within(asker.connect())
    may_open.set()
    for asked in [asker.connect(), asker.connect()]:
        assert cast(_Opened, await asked) is opened
    assert openings == [opened]
    await asker.close()
    assert opened.closed == 1


async def test_an_opening_that_failed_is_tried_again() -> None:
    """Also where nobody waited for its end."""
    answers: list[_Opened | Exception] = [
        StoreUnavailableError("gone"),
        StoreUnavailableError("gone"),
        _Opened(),
    ]

    def opens() -> _Opened:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    asker = _asker(opens)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await asker.connect()
    assert isinstance(await asker.connect(), _Opened)
    await asker.close()


async def test_closing_ends_a_preparation_that_waits() -> None:
    """As for nodes that stand still, and so don't agree on the schema."""
    preparing, cut, opened = threading.Event(), threading.Event(), _Opened()
    patch.object(opened, "close", cut.set).start()

    def prepare(_: Connected) -> None:
        preparing.set()
        assert cut.wait(20)
        raise StoreUnavailableError("closed")

    asker = Asker(CassandraSettings(), prepare, deadline_s=0.01)
    with patch.object(asking, "Connected", lambda _: opened):
        opening = asyncio.ensure_future(asker.connect())
        assert await asyncio.to_thread(preparing.wait, 20)
        await asker.close()
    with pytest.raises(StoreUnavailableError):
        await opening


async def test_closing_waits_for_an_opening() -> None:
    """Nothing is left open behind it; one that fails is no trouble."""
    opened = _Opened()
    asker = _asker(lambda: opened)
    opening = asyncio.ensure_future(asker.connect())
    await asyncio.sleep(0)
    await asker.close()
    assert opened.closed == 1
    await opening
    failing = _asker(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    trying = asyncio.ensure_future(failing.connect())
    await asyncio.sleep(0)
    await failing.close()
    with pytest.raises(ZeroDivisionError):
        await trying
