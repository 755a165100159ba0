"""What strangers do that a server should not have to bear: one visit each."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from random import Random
from typing import Final

import msgspec

from benchmarks.certificates import Plant
from simulator.blast import prepare

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_HOST: Final = "127.0.0.1"
ALLOWED: Final = "127.0.0.0/16"
_OUTSIDE: Final = "127.1.0.1"
_CROWD: Final = "127.0.2.1"

_VISIT_S: Final = (1.0, 5.0)
"""At most, and never the same, or all would come again at one moment."""

_PAUSE_S: Final = 0.1
_BREATH_S: Final = 0.02
_RESET: Final = struct.pack("ii", 1, 0)
_RECORD: Final = b"E0001,35.2,8000,2.5,3.7,380#"
_NO_HTTP: Final = b"\x16\x03\x01 nonsense\r\n\r\n"
_NO_CHUNK: Final = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
_FIGURES: Final = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
_ASKING: Final = b"GET /schema/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1_000
_HALF_A_HELLO: Final = b"\x16\x03\x01\x02\x00\x01\x00\x3e\x80\x03\x03"
"""Of 16 000 bytes."""

_GREEDY_HELLO: Final = b"\x16\x03\x01\x02\x00\x01\x01\xff\xb8\x03\x03"
"""Of 131 000, which the other side would have to set aside."""


class Door(msgspec.Struct, frozen=True):
    """Where the server is, and how it wants to be spoken to."""

    port: int
    ack_port: int
    pages: int
    """Where it speaks HTTP."""

    plant: Plant | None = None
    """With TLS: whose certificates the server asks for, and the strangers have got hold of."""

    foreign: Plant | None = None
    """Another plant's."""


class Stranger:
    """One of them."""

    def __init__(self, door: Door, number: int) -> None:
        self.door = door
        self.number = number
        self.address = f"127.0.1.{number % 250 + 1}"
        self.context: ssl.SSLContext | None = None
        self._chance = Random(number)  # noqa: S311  # repeatable, not secret

    async def annoy(self, act: "Act") -> None:
        """Come again and again."""
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                async with asyncio.timeout(self._chance.uniform(*_VISIT_S)):
                    await act(self)
            await asyncio.sleep(_PAUSE_S)

    async def enter(self, *, acks: bool = False) -> Streams:
        """Connect, over TLS where that is asked."""
        port = self.door.ack_port if acks else self.door.port
        named = "localhost" if self.context is not None else None
        return await asyncio.open_connection(
            _HOST, port, local_addr=(self.address, 0), ssl=self.context, server_hostname=named
        )


Act = Callable[[Stranger], Awaitable[None]]


async def pour(stranger: Stranger, data: bytes) -> None:
    """Send this as fast as it is taken, or nearly: a megabyte a second is far above any share."""
    _, writer = await stranger.enter()
    try:
        while True:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(_BREATH_S)  # over TLS `drain` may return at once, for ever
    finally:
        writer.transport.abort()


@cache
def _records(malformed: float) -> bytes:
    return prepare(10, 1_000, malformed=malformed).payload


async def garbage(stranger: Stranger) -> None:
    """Malformed records."""
    await pour(stranger, _records(1.0))


async def endless(stranger: Stranger) -> None:
    """Bytes without a delimiter."""
    await pour(stranger, b"x" * 16_384)


async def flood(stranger: Stranger) -> None:
    """Good records, and far too many."""
    await pour(stranger, _records(0.0))


async def drip(stranger: Stranger) -> None:
    """A byte a second; every other one behind a good record."""
    _, writer = await stranger.enter()
    try:
        writer.write(_RECORD if stranger.number % 2 else b"1")
        while True:
            await asyncio.sleep(1.0)
            writer.write(b"1")
            await writer.drain()
    finally:
        writer.transport.abort()


async def deaf(stranger: Stranger) -> None:
    """Asks for acknowledgements and never reads one; where it can it closes its half in the end."""
    _, writer = await stranger.enter(acks=True)
    try:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # there is no type for both ways
        for _ in range(100):
            writer.write(_RECORD)
            await asyncio.sleep(0.01)
        if writer.can_write_eof():
            writer.write_eof()
        await asyncio.sleep(1.0)
    finally:
        writer.transport.abort()


async def reset(stranger: Stranger) -> None:
    """Connects and is gone."""
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.bind((stranger.address, 0))
        await asyncio.get_running_loop().sock_connect(sock, (_HOST, stranger.door.port))


async def stay(stranger: Stranger, first: bytes = b"") -> None:
    """Says this, and then nothing until the server has had enough."""
    reader, writer = await stranger.enter()
    try:
        writer.write(first)
        while await reader.read(4096):
            pass
    finally:
        writer.transport.abort()


async def _stay_bare(stranger: Stranger, first: bytes) -> None:
    """The same without TLS, whatever the server speaks."""
    stranger.context = None
    await stay(stranger, first)


async def crowd(stranger: Stranger) -> None:
    """All from one address."""
    stranger.address = _CROWD
    await stay(stranger, _RECORD)


async def forbidden(stranger: Stranger) -> None:
    """From an address that may not connect."""
    stranger.address = _OUTSIDE
    await stay(stranger)


async def plain_text(stranger: Stranger) -> None:
    """No TLS where that is spoken."""
    await _stay_bare(stranger, _RECORD)


async def stalled(stranger: Stranger) -> None:
    """Begins a handshake and stops."""
    await _stay_bare(stranger, _HALF_A_HELLO)


async def of_another(stranger: Stranger) -> None:
    """Sends for a device that it is not."""
    _, writer = await stranger.enter()
    try:
        while True:
            writer.write(_RECORD * 20)
            await asyncio.sleep(0.1)
    finally:
        writer.transport.abort()


async def no_http(stranger: Stranger) -> None:
    """To the pages: bytes that are no request, or a body that is none once it was answered."""
    reader, writer = await asyncio.open_connection(
        _HOST, stranger.door.pages, local_addr=(stranger.address, 0)
    )
    try:
        if stranger.number % 2:
            writer.write(_NO_HTTP)
        else:
            writer.write(_NO_CHUNK)
            await reader.readline()
            writer.write(b"zz\r\n")
        await reader.read()
    finally:
        writer.transport.abort()


async def deaf_page(stranger: Stranger) -> None:
    """Asks for pages, one after the other, and reads none."""
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.bind((stranger.address, 0))
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (_HOST, stranger.door.pages))
        await loop.sock_sendall(sock, _ASKING)
        await asyncio.sleep(_VISIT_S[1])


async def dear_page(stranger: Stranger) -> None:
    """Asks for the dearest page that there is for strangers, without a pause."""
    reader, writer = await asyncio.open_connection(
        _HOST, stranger.door.pages, local_addr=(stranger.address, 0)
    )
    try:
        while True:
            writer.write(_FIGURES)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(_length(head))
    finally:
        writer.transport.abort()


def _length(head: bytes) -> int:
    """Of the body that follows."""
    fields = (line.partition(b":") for line in head.lower().splitlines())
    for name, _, value in fields:
        if name == b"content-length":
            return int(value)
    raise ConnectionError("an answer without a length")


async def greedy(stranger: Stranger) -> None:
    """Has the server set memory aside."""
    await _stay_bare(stranger, _GREEDY_HELLO)


async def dear(stranger: Stranger) -> None:
    """Asks for the exchange of keys that costs the other side most."""
    await _stay_bare(stranger, _dear_hello())


@cache
def _dear_hello() -> bytes:
    """Made once: it costs whoever makes it as much."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_ecdh_curve("ffdhe8192")
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()
