"""The server under clients that behave badly, and its coming and going."""

import asyncio
import gc
import select
import signal
import socket
import time
import weakref

import aiohttp
import msgspec
import pytest

from tests.web.shop import Shop, record, until
from web.deadlines import DeadlineProtocol
from web.server import Address, serve_http
from web.settings import HttpLimits, HttpSettings


async def test_a_free_port_is_taken_and_told(shop: Shop) -> None:
    """Port 0 is answered on the real one."""
    async with shop.serve() as address, aiohttp.ClientSession() as client:
        assert address.port > 0
        async with client.get(f"{address.url}/healthz") as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "alive"})


async def test_a_port_in_use_is_an_error_that_names_it() -> None:
    """Not an exit of the process."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"host 127.0.0.1, port {port}: Address already in use"):
            async with serve_http(_never, HttpSettings(port=port)):
                pytest.fail("it can't have begun")


async def test_an_unknown_host_is_an_error_that_names_it() -> None:
    """The same for a host that isn't ours."""
    with pytest.raises(OSError, match=r"host 192\.0\.2\.1, port 0: "):
        async with serve_http(_never, HttpSettings(host="192.0.2.1", port=0)):
            pytest.fail("it can't have begun")


async def _never(*_: object) -> None:
    pytest.fail("nobody asked")


async def test_stopping_ends_open_streams_at_once_and_leaves_signals_alone(shop: Shop) -> None:
    """Streams come to an orderly end, and the process's signal handlers are those of before."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with aiohttp.ClientSession() as client:
        async with shop.serve() as address:
            live = await client.get(f"{address.url}/api/v1/live")
            stream = await client.get(f"{address.url}/api/v1/stream")
            await until(lambda: len(shop.feed._watchers) == 2)
            assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
            began = time.monotonic()
        assert time.monotonic() - began < HttpLimits().stop_timeout_s
        assert (await live.read()).startswith(b"retry:")
        assert (await stream.read()).startswith(b"retry:")
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.get(address.url)


async def test_the_same_port_can_be_taken_again_at_once(shop: Shop) -> None:
    """Old connections don't hold it."""
    async with shop.serve() as address, aiohttp.ClientSession() as client:
        await client.get(f"{address.url}/healthz")
    async with shop.serve(port=address.port) as again:
        assert again.port == address.port


@pytest.mark.parametrize("host", ["gate..plant", "no-such-host.invalid"])
async def test_a_host_that_there_is_not_is_named(host: str) -> None:
    """Also one that can't be looked up at all."""
    with pytest.raises(OSError, match=f"http: can't listen on host {host}, port 0"):
        async with serve_http(_never, HttpSettings(host=host, port=0)):
            pytest.fail("it can't have begun")


async def test_an_application_that_can_not_start_is_an_error(unused_tcp_port: int) -> None:
    """And the port is free again."""
    settings = HttpSettings(port=unused_tcp_port)
    with pytest.raises(RuntimeError, match="could not start"):
        async with serve_http(_never, settings):
            pytest.fail("it can't have begun")
    with socket.create_server((settings.host, settings.port)):
        pass


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Everything until the server closes, which it may do with a reset."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.mark.fault
@pytest.mark.parametrize("request_", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
async def test_slow_headers_are_closed_though_bytes_keep_coming(shop: Shop, request_: bytes) -> None:
    """One byte now and then doesn't move the deadline; others are answered meanwhile."""
    limits = HttpLimits(header_timeout_s=0.5)
    async with shop.serve(limits) as address, aiohttp.ClientSession(address.url) as client:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(request_)
        closed = asyncio.ensure_future(read_all(reader))
        while not closed.done():
            async with client.get("/healthz") as answer:
                assert answer.status == 200
            if request_ and not writer.is_closing():
                writer.write(b"x")
            await asyncio.wait({closed}, timeout=0.05)
        assert await closed == b""
        writer.close()


async def test_a_slow_second_request_is_closed_too(shop: Shop) -> None:
    """A connection that was good once is under the same deadline."""
    async with shop.serve(HttpLimits(header_timeout_s=0.5, keep_alive_s=60)) as address:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nG")
        answer = await read_all(reader)
        assert answer.startswith(b"HTTP/1.1 200")
        writer.close()


async def test_nothing_is_kept_of_who_breaks_off_behind_an_answer(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even as long as it might have asked more."""
    made: list[weakref.ref[DeadlineProtocol]] = []
    real = DeadlineProtocol.connection_made

    def make(self: DeadlineProtocol, transport: asyncio.Transport) -> None:
        made.append(weakref.ref(self))
        real(self, transport)

    monkeypatch.setattr(DeadlineProtocol, "connection_made", make)
    async with shop.serve(HttpLimits(keep_alive_s=600)) as address:
        with socket.create_connection((address.host, address.port)) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: bool(select.select([client], [], [], 0)[0]))
        await until(lambda: gc.collect() >= 0 and made[0]() is None)


async def test_an_open_stream_has_no_deadline_while_it_is_read(shop: Shop) -> None:
    """The header deadline ends with the headers."""
    async with shop.serve(HttpLimits(header_timeout_s=0.1)) as address:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"retry: 2000\n\n")
        await asyncio.sleep(0.3)
        shop.send(record("E0001"))
        assert b"E0001" in await reader.readuntil(b"}]}\n\n")
        writer.close()


async def _raw(address: Address, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(request)
    answer = await read_all(reader)
    writer.close()
    return answer


async def test_headers_without_end_are_refused(shop: Shop) -> None:
    """What one request may hold is bounded."""
    async with shop.serve(HttpLimits(max_header_bytes=4096)) as address:
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 8192
        assert (await _raw(address, request)).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 99 + b"\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_refused(shop: Shop, garbage: bytes) -> None:
    """Also a request without a host."""
    async with shop.serve() as address:
        assert (await _raw(address, garbage)).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:1234", 200),
        ("127.0.0.1:9480", 200),
        ("[::1]:9480", 200),
        ("evil.example", 421),
        ("localhost.evil.example:9480", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("localhost:99999", 400),
        ("localhost:x", 400),
        ("x@localhost", 400),
        ("[x]", 400),
    ],
)
async def test_on_loopback_only_names_of_loopback_are_answered(shop: Shop, host: str, status: int) -> None:
    """A foreign page can't reach us under a name of its own."""
    async with (
        shop.serve() as address,
        aiohttp.ClientSession(address.url) as client,
        client.get("/healthz", headers={"Host": host}) as answer,
    ):
        assert answer.status == status


async def test_what_is_no_host_is_refused_on_any_address(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a problem document."""
    monkeypatch.setattr("web.server._is_loopback", lambda _: False)
    async with shop.serve() as address:
        assert (await _raw(address, b"GET /nowhere HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 404")
        for host in (b"[", b"[x]", b"plant.example:99999", b"a/b", b"a?b"):
            answer = await _raw(address, b"GET / HTTP/1.1\r\nConnection: close\r\nHost: %b\r\n\r\n" % host)
            assert answer.startswith(b"HTTP/1.1 400")
            assert answer.endswith(b'"status":400,"detail":"the header Host names no host"}')


async def test_every_answer_carries_security_headers(shop: Shop) -> None:
    """Also errors and refusals."""
    async with shop.serve() as address, aiohttp.ClientSession(address.url) as client:
        for path, host in (("/healthz", "localhost"), ("/nonsense", "localhost"), ("/", "evil.example")):
            async with client.get(path, headers={"Host": host}) as answer:
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
                assert "Server" not in answer.headers


def test_settings_refuse_what_they_do_not_know() -> None:
    """Unknown keys, and ports that there are not."""
    assert msgspec.convert({"port": 0}, HttpSettings) == HttpSettings(port=0)
    for wrong in ({"prot": 1}, {"port": -1}, {"port": 65536}, {"host": 1}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, HttpSettings)


@pytest.mark.parametrize("host", ["::", "0.0.0.1", "192.168.1.5", "plant.example", "127.0.0.1.example", ""])
def test_a_server_without_login_is_reached_from_this_machine_only(host: str) -> None:
    """Any other address is refused with the key that is wrong."""
    assert not msgspec.convert({"login": False}, HttpSettings).login
    with pytest.raises(msgspec.ValidationError, match="login: can be off on loopback only"):
        msgspec.convert({"login": False, "host": host}, HttpSettings)
