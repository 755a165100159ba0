"""Connections that we end: each is counted with its reason, and none is a line or a traceback in the log."""

import asyncio
from contextlib import closing
from typing import Final

import pytest

from orders.logs.base import Level
from tests.web.desk import ORDERS, SESSION, Desk
from tests.web.shop import Shop, record, until
from tests.web.test_events import deaf_client
from tests.web.test_limits import connected
from web.deadlines import DeadlineProtocol
from web.places import Cut
from web.settings import HttpLimits

pytestmark = pytest.mark.fault

_CHUNKED: Final = "Host: {host}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
_NO_CHUNK: Final = b"zz\r\n"


@pytest.mark.parametrize("path", [ORDERS, SESSION, "/nowhere"])
@pytest.mark.parametrize(("method", "host"), [("POST", "localhost"), ("POST", "evil"), ("HEAD", "localhost")])
async def test_a_chunk_that_is_none_ends_a_request_whatever_was_answered(
    desk: Desk, path: str, method: str, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Before, while and after somebody answers; in one piece with the head, and later."""
    head = f"{method} {path} HTTP/1.1\r\n{_CHUNKED.format(host=host)}".encode()
    async with desk.open():
        async with connected(desk) as line:
            line.send(head + _NO_CHUNK)
            await line.closed()
        async with connected(desk) as line:
            line.send(head)
            await asyncio.sleep(0)
            line.send(b"1\r\n{\r\n")
            line.send(_NO_CHUNK)
            await line.closed()
        async with connected(desk) as line:
            line.send(head)
            answered = asyncio.create_task(line.status())
            await asyncio.wait({answered}, timeout=0.2)  # of some there is no answer before the body's end
            line.send(_NO_CHUNK)
            await answered
            await line.closed()
        assert desk.shop.cuts() == {Cut.NO_HTTP: 3.0}
        assert (await desk.ask("GET", "/healthz")).status == 200
    assert not caplog.records
    assert not [row for row in await desk.all_rows() if row.level in (Level.ERROR, Level.FATAL)]


@pytest.mark.parametrize("data", [b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
async def test_what_is_no_http_is_counted_and_not_said(
    desk: Desk, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """400; a TLS hello is such a thing."""
    async with desk.open(), connected(desk) as line:
        line.send(data)
        assert await line.status() == 400
        await line.closed()
        assert desk.shop.cuts() == {Cut.NO_HTTP: 1.0}
    assert not caplog.records


async def test_an_upgrade_that_is_not_offered_is_passed_over(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is that of the request without it."""
    async with desk.open(), connected(desk) as line:
        line.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        assert await line.status() == 200
        assert desk.shop.cuts() == {}
    assert not caplog.records


async def test_who_asks_nothing_in_time_is_counted(desk: Desk) -> None:
    """Silence, and half a request."""
    async with desk.open(limits=HttpLimits(header_timeout_s=0.2)):
        for begun in (b"", b"GET / HT"):
            async with connected(desk) as line:
                line.send(begun)
                assert await line.closed() == b""
        assert desk.shop.cuts() == {Cut.NO_REQUEST: 2.0}


async def test_a_request_behind_another_is_due_too(desk: Desk) -> None:
    """All but the end of its body came with the one before."""
    async with desk.open(limits=HttpLimits(header_timeout_s=0.5)), connected(desk) as line:
        first = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        line.send(f"{first}POST {ORDERS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab".encode())
        assert await line.status() == 200
        await line.closed()
        assert desk.shop.cuts() == {Cut.NO_REQUEST: 1.0}


async def test_a_few_bytes_that_nobody_takes_are_due_too(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer than a transport likes to hold, and the connection is idle otherwise."""
    made: list[asyncio.Transport] = []
    real = DeadlineProtocol.connection_made

    def make(self: DeadlineProtocol, transport: asyncio.Transport) -> None:
        made.append(transport)
        real(self, transport)

    monkeypatch.setattr(DeadlineProtocol, "connection_made", make)
    async with shop.serve(HttpLimits(stall_timeout_s=1.0)) as address:
        with closing(deaf_client(address.port, "/healthz")) as deaf:
            await until(lambda: bool(made))
            while not made[0].get_write_buffer_size():  # the kernel holds so many
                deaf.send(b"GET /static/frame.css HTTP/1.1\r\nHost: localhost\r\n\r\n" * 4)
                await asyncio.sleep(0.005)
            assert made[0].get_write_buffer_size() < 64 * 1024
            await until(lambda: shop.cuts() == {Cut.NOT_TAKEN: 1.0})


async def test_a_body_that_is_not_there_yet_when_the_server_stops_is_no_error_of_ours(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """It is waited for as long as for answers, then cut and counted."""
    async with desk.open(limits=HttpLimits(stop_timeout_s=1)):
        _, slow = await asyncio.open_connection(desk.address.host, desk.address.port)
        slow.write(f"POST {SESSION} HTTP/1.1\r\nHost: localhost\r\n".encode())
        slow.write(b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        assert (await desk.ask("GET", "/healthz")).status == 200
    slow.close()
    assert desk.shop.cuts() == {Cut.STOPPED: 1.0}
    assert not caplog.records


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (HttpLimits(stall_timeout_s=0.5), Cut.NOT_TAKEN),
        (HttpLimits(stop_timeout_s=1), Cut.STOPPED),
    ],
)
async def test_who_takes_no_answer_is_counted_and_no_error_of_ours(
    shop: Shop, limits: HttpLimits, why: Cut, caplog: pytest.LogCaptureFixture
) -> None:
    """When its time is over, or the server stops before."""
    async with shop.serve(limits) as address:
        deaf = deaf_client(address.port, "/api/v1/stream")
        await until(lambda: bool(shop.feed.watched))
        for _ in range(200):  # more than sockets and watcher hold
            shop.send(b"".join(record(f"E{number:04}") for number in range(2_000)))
            await asyncio.sleep(0)
        if why == Cut.NOT_TAKEN:
            await until(lambda: not shop.feed.watched)
    deaf.close()
    assert shop.cuts() == {why: 1.0}
    assert not caplog.records
