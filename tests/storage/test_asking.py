"""A cluster is opened once, for all who ask."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast
from unittest.mock import patch

import pytest

from storage.cassandra import asking
from storage.cassandra.asking import Asker
from storage.cassandra.connect import Connected
from storage.errors import StorageError, StoreSlowError, StoreUnavailableError
from storage.settings import CassandraSettings
from tests.support.cassandra import Cassandra


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


class _Road:
    """From an address of this machine to the cluster."""

    def __init__(self, cluster: Cassandra) -> None:
        self._to = (cluster.contact_points[0], cluster.port)
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self, host: str) -> None:
        """Let traffic in at this address, on the cluster's port."""
        self._server = await asyncio.start_server(self._pass, host, self._to[1])

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._to)
        self._writers += [writer, back]
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer))

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                target.write(data)
        target.close()

    async def close(self) -> None:
        """Cut everybody off."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()


@pytest.mark.cassandra
async def test_nodes_of_cassandra_that_came_back_elsewhere_are_found(
    cassandra: Cassandra, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The contact point's name means another address now; nobody has to be restarted."""
    where = ["127.0.0.2"]
    real = socket.getaddrinfo

    def looked_up(host: str, *rest: Any, **options: Any) -> Any:
        return real(where[0] if host == "cluster.plant" else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    monkeypatch.setattr(asking, "_LOST_S", 0.5)
    settings = CassandraSettings(contact_points=("cluster.plant",), port=cassandra.port)
    asker = Asker(settings, lambda _: None)
    first, second = _Road(cassandra), _Road(cassandra)
    question = "SELECT key FROM system.local"
    await first.open("127.0.0.2")
    assert await asker.within(asker.ask(question)) == [("local",)]
    await first.close()
    where[0] = "127.0.0.3"
    await second.open("127.0.0.3")
    deadline, answer = time.monotonic() + 60, None
    while answer is None and time.monotonic() < deadline:
        try:
            answer = await asker.within(asker.ask(question))
        except StorageError:
            await asyncio.sleep(0.1)
    assert answer == [("local",)]
    await asker.close()
    await second.close()
