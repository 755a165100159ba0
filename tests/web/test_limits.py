"""What one client can take of the gateway: bodies, time, connections, and what is left for the others."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from orders.logs.base import Level, LogRow
from tests.web.desk import CUSTOMER, JSON, ORDER, ORDERS, PASSWORD, SESSION, Desk
from tests.web.shop import until
from web.app import MAX_BODY_BYTES
from web.settings import HttpLimits

SHORT: Final = HttpLimits(header_timeout_s=0.5)
BODY: Final = msgspec.json.encode(ORDER)


@pytest_asyncio.fixture
async def desk(desk: Desk) -> Desk:
    """With a customer, not served yet."""
    await desk.counter.add_user(CUSTOMER, "customer", password=PASSWORD)
    return desk


class Line:
    """A connection on which a test writes what it wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        """Whether or not the other side still listens."""
        if not self._writer.is_closing():
            self._writer.write(data)

    async def status(self) -> int:
        """Of the next answer."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1])

    async def closed(self, meanwhile: Callable[[], None] = lambda: None) -> bytes:
        """Everything until the server closes, which it has to do by itself."""
        reading = asyncio.ensure_future(self._rest())
        while not (await asyncio.wait({reading}, timeout=0.05))[0]:
            meanwhile()
        return reading.result()

    async def _rest(self) -> bytes:
        try:
            return await self._reader.read()
        except ConnectionResetError:
            return b""


@asynccontextmanager
async def connected(desk: Desk) -> AsyncIterator[Line]:
    """To the served desk."""
    reader, writer = await asyncio.open_connection(desk.address.host, desk.address.port)
    yield Line(reader, writer)
    writer.close()


async def _head(desk: Desk, *lines: str, path: str = ORDERS) -> bytes:
    """The head of a change that the customer's program asks for."""
    token = (await desk.token())["Authorization"]
    own = ["Host: localhost", f"Authorization: {token}", "Content-Type: application/json", *lines]
    return "\r\n".join([f"POST {path} HTTP/1.1", *own, "", ""]).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_a_body_in_chunks_is_as_good_as_any(desk: Desk) -> None:
    """Without a length, byte by byte: 503 is what comes of an order where no supplier is."""
    async with desk.open(), connected(desk) as line:
        line.send(await _head(desk, "Transfer-Encoding: chunked"))
        for byte in BODY:
            line.send(_chunk(bytes([byte])))
        line.send(_chunk(b""))
        assert await line.status() == 503


@pytest.mark.parametrize("path", [ORDERS, SESSION])
async def test_a_body_is_bounded_whether_or_not_it_says_how_long_it_is(desk: Desk, path: str) -> None:
    """413, before the end of it."""
    async with desk.open():
        async with connected(desk) as line:
            line.send(await _head(desk, f"Content-Length: {MAX_BODY_BYTES + 1}", path=path))
            assert await line.status() == 413
        async with connected(desk) as line:
            line.send(await _head(desk, "Transfer-Encoding: chunked", path=path))
            for _ in range(MAX_BODY_BYTES // 4096 + 1):
                line.send(_chunk(b" " * 4096))
            assert await line.status() == 413


@pytest.mark.fault
@pytest.mark.parametrize("how", ["Content-Length: 60000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("path", [ORDERS, SESSION])
async def test_slow_bodies_are_closed_though_bytes_keep_coming(desk: Desk, how: str, path: str) -> None:
    """A byte now and then doesn't move the deadline; others are answered meanwhile, and it is no error."""
    byte = _chunk(b" ") if "chunked" in how else b" "
    async with desk.open(limits=SHORT), connected(desk) as line:
        line.send(await _head(desk, how, path=path))
        assert await line.closed(lambda: line.send(byte)) == b""
        assert (await desk.ask("GET", "/healthz")).status == 200
        assert await _broken_off(desk)


@pytest.mark.fault
async def test_a_body_that_breaks_off_is_no_error_of_ours(desk: Desk) -> None:
    """One row, of the caller's doing; nothing was ordered."""
    async with desk.open():
        async with connected(desk) as line:
            line.send(await _head(desk, f"Content-Length: {len(BODY) + 1}") + BODY)
        row = await _broken_off(desk)
        assert row.user_id == CUSTOMER
        assert await desk.counter.book.orders(None, None, 1) == []


async def _broken_off(desk: Desk) -> LogRow:
    """The row that tells of it; and none of an error."""
    (row,) = await desk.rows("Request was refused")
    assert (row.level, row.additional_info["reason"]) == (Level.WARN, "the request broke off before its end")
    assert not [row for row in await desk.all_rows() if row.level in (Level.ERROR, Level.FATAL)]
    return row


@pytest.mark.fault
async def test_who_is_refused_early_can_not_keep_the_connection(desk: Desk) -> None:
    """401 at once, and closed where the rest of the body doesn't come."""
    async with desk.open(limits=SHORT), connected(desk) as line:
        line.send(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n" % ORDERS.encode())
        line.send(b"Content-Type: application/json\r\n\r\n")
        assert (await line.closed()).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 4", "Content-Length: 5"],
        ["Content-Length: 4, 5"],
        ["Content-Length: -1"],
        ["Content-Length: 0x4"],
        ["Content-Length: +4"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked, chunked"],
        ["Transfer-Encoding : chunked"],
        ["Host: elsewhere"],
        ["X: a\x00b"],
    ],
    ids=str,
)
async def test_a_request_that_two_could_read_in_two_ways_is_refused(desk: Desk, lines: list[str]) -> None:
    """A proxy and we must not see different requests in the same bytes."""
    async with desk.open(), connected(desk) as line:
        line.send(await _head(desk, *lines) + b"null")
        assert await line.status() in (400, 501)
        assert await line.closed() is not None


async def test_headers_are_bounded(desk: Desk) -> None:
    """Together, whatever they are, and also where all of them come at once."""
    async with desk.open():
        for headers in ({"Cookie": "x" * 21_000}, {f"X-{n}": "x" * 100 for n in range(400)}):
            assert (await desk.ask("POST", ORDERS, {**JSON, **headers}, data=BODY)).status == 400
        assert (await desk.ask("POST", ORDERS, {**JSON, "X": "x" * 15_000}, data=BODY)).status == 401


@pytest.mark.fault
async def test_more_connections_than_there_may_be_get_no_order_through(desk: Desk) -> None:
    """Closed at once, nothing ordered, and room again when some go."""
    async with desk.open(limits=HttpLimits(max_connections=3)):
        head = await _head(desk, f"Content-Length: {len(BODY)}")
        idle = [await asyncio.open_connection(desk.address.host, desk.address.port) for _ in range(3)]
        async with connected(desk) as line:
            line.send(head + BODY)
            assert await line.closed() == b""
        assert await desk.counter.book.orders(None, None, 1) == []
        for _, writer in idle:
            writer.close()

        async def is_room() -> bool:
            with suppress(aiohttp.ClientError):
                return (await desk.ask("GET", ORDERS)).status == 401
            return False

        await until(is_room)


async def test_passwords_that_wait_are_bounded(desk: Desk) -> None:
    """503 and when to try again; it is not held against the name."""
    async with desk.open():
        places = desk.counter.passwords._places
        while places.acquire(blocking=False):
            pass
        for _ in range(10):
            answer = await desk.try_to_log_in()
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        places.release()
        assert (await desk.try_to_log_in()).status == 200
