"""Two hundred strangers who do all that a server should not have to bear, in processes of their own.

Each has one way of being a nuisance and an address of its own (all of loopback), and a tenth of a second
after a visit the next one begins. They come with less priority than anybody else on this machine: in a plant
they would bring processors of their own, and what is measured is what they cost the server.
A visit, and all of them together, end after a time, whether the server does something or not.
"""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from random import Random
from typing import Final

import msgspec
import uvloop

from benchmarks.certificates import Plant
from simulator.blast import prepare

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_HOST: Final = "127.0.0.1"
ALLOWED: Final = "127.0.0.0/16"
_OUTSIDE: Final = "127.1.0.1"
_CROWD: Final = "127.0.2.1"

_PROCESSES: Final = 2
_VISIT_S: Final = (1.0, 5.0)
"""At most, and never the same, or all would come again at one moment."""

_PAUSE_S: Final = 0.1
_BREATH_S: Final = 0.02
_LONGEST_S: Final = 900.0
_BEGIN_S: Final = 30.0
_NICE: Final = 19
_RESET: Final = struct.pack("ii", 1, 0)
_RECORD: Final = b"E0001,35.2,8000,2.5,3.7,380#"
_HALF_A_HELLO: Final = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


class Door(msgspec.Struct, frozen=True):
    """Where the server is, and how it wants to be spoken to."""

    port: int
    ack_port: int
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


async def _pour(stranger: Stranger, data: bytes) -> None:
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


async def _garbage(stranger: Stranger) -> None:
    await _pour(stranger, _records(1.0))


async def _endless(stranger: Stranger) -> None:
    await _pour(stranger, b"x" * 16_384)


async def _flood(stranger: Stranger) -> None:
    await _pour(stranger, _records(0.0))


async def _drip(stranger: Stranger) -> None:
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


async def _deaf(stranger: Stranger) -> None:
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


async def _reset(stranger: Stranger) -> None:
    """Connects and is gone."""
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.bind((stranger.address, 0))
        await asyncio.get_running_loop().sock_connect(sock, (_HOST, stranger.door.port))


async def _stay(stranger: Stranger, first: bytes = b"") -> None:
    """Says this, and then nothing until the server has had enough."""
    reader, writer = await stranger.enter()
    try:
        writer.write(first)
        while await reader.read(4096):
            pass
    finally:
        writer.transport.abort()


async def _crowd(stranger: Stranger) -> None:
    """All from one address."""
    stranger.address = _CROWD
    await _stay(stranger, _RECORD)


async def _forbidden(stranger: Stranger) -> None:
    stranger.address = _OUTSIDE
    await _stay(stranger)


async def _plain_text(stranger: Stranger) -> None:
    stranger.context = None
    await _stay(stranger, _RECORD)


async def _stalled(stranger: Stranger) -> None:
    stranger.context = None
    await _stay(stranger, _HALF_A_HELLO)


async def _of_another(stranger: Stranger) -> None:
    """Sends for a device that it is not."""
    _, writer = await stranger.enter()
    try:
        while True:
            writer.write(_RECORD * 20)
            await asyncio.sleep(0.1)
    finally:
        writer.transport.abort()


ANYWHERE: Final[list[tuple[Act, int, str]]] = [
    (_garbage, 25, ""),
    (_endless, 25, ""),
    (_flood, 30, ""),
    (_drip, 25, ""),
    (_deaf, 25, ""),
    (_reset, 30, ""),
    (_crowd, 20, ""),
    (_forbidden, 20, ""),
]
"""What they do, how many of them, and with whose certificate; the last doesn't matter here."""

OVER_TLS: Final[list[tuple[Act, int, str]]] = [
    (_garbage, 16, "garbage"),
    (_endless, 16, "endless"),
    (_flood, 16, "flood"),
    (_drip, 16, "drip"),
    (_deaf, 16, "deaf"),
    (_reset, 16, ""),
    (_crowd, 12, "crowd"),
    (_forbidden, 12, ""),
    (_of_another, 10, "other"),
    (_stay, 24, "namesake"),
    (_plain_text, 10, ""),
    (_stalled, 16, ""),
    (_stay, 7, "nobody"),
    (_stay, 7, "foreign"),
    (_stay, 6, "distrustful"),
]
"""The same where the server speaks TLS: those who are in have stolen a certificate of the plant."""

STOLEN: Final = ("garbage", "endless", "flood", "drip", "deaf", "crowd", "other", "namesake")
OF_ADDRESS: Final = 8
"""Connections that one address may have: fewer than the crowd's."""

OF_IDENTITY: Final = 16
"""Connections that one identity may have: fewer than the namesakes'."""


def _context(door: Door, kind: str) -> ssl.SSLContext | None:
    """How one of them speaks TLS, if it does."""
    if door.plant is None or door.foreign is None or not kind:
        return None
    if kind == "distrustful":  # hangs up when it sees the server's certificate
        return door.foreign.client("foreign")
    if kind == "foreign":
        context = door.plant.client(None)
        context.load_cert_chain(f"{door.foreign.folder}/foreign.pem", f"{door.foreign.folder}/foreign.key")
        return context
    return door.plant.client(None if kind == "nobody" else kind)


def everybody(door: Door) -> list[tuple[Act, Stranger]]:
    """All of them."""
    acts = ANYWHERE if door.plant is None else OVER_TLS
    found: list[tuple[Act, Stranger]] = []
    for act, count, kind in acts:
        context = _context(door, kind)
        for _ in range(count):
            stranger = Stranger(door, len(found))
            stranger.context = context
            found.append((act, stranger))
    return found


@contextmanager
def beset(door: Door) -> Iterator[None]:
    """Have them all come for as long as the context lasts."""
    spawning = get_context("spawn")
    begun = [spawning.Event() for _ in range(_PROCESSES)]
    processes = [
        spawning.Process(target=_process, args=(door, place, each), daemon=True)
        for place, each in enumerate(begun)
    ]
    try:
        for process in processes:
            process.start()
        if not all(each.wait(_BEGIN_S) for each in begun):
            raise RuntimeError("the strangers did not begin")
        yield
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join(_BEGIN_S)


def _process(door: Door, place: int, begun: Event) -> None:
    os.nice(_NICE)
    begun.set()
    uvloop.run(_besiege(everybody(door)[place::_PROCESSES]))


async def _besiege(strangers: list[tuple[Act, Stranger]]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_LONGEST_S), asyncio.TaskGroup() as group:
            for act, stranger in strangers:
                group.create_task(stranger.annoy(act))
