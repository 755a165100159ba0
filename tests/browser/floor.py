"""A served shop floor beside a blocking browser: its loop runs in a thread of its own."""

import asyncio
import math
import threading
import time
import zlib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

import uvloop

from parser.block import Closed, Opened
from tests.web.shop import Shop, record
from web.server import Address

T = TypeVar("T")
F = TypeVar("F", bound="Floor")

HOUR_MS = 3_600_000


class Floor:
    """A shop that is served; everything done to it happens in its loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int) -> None:
        self._loop = loop
        self.port = port
        self.shop = Shop(time.time_ns() // 1_000_000 - 2 * HOUR_MS)
        self.url = ""
        self._stop = asyncio.Event()
        self._up = threading.Event()
        self._down = threading.Event()

    def do(self, action: Callable[[], T]) -> T:
        """Do something in the loop and wait for it."""

        async def done() -> T:
            return action()

        return self.ask(done())

    def ask(self, coroutine: Coroutine[object, object, T]) -> T:
        """Run this in the loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def send(self, text: bytes, *, at: int | None = None) -> None:
        """Records of connection 1."""
        self.do(lambda: self.shop.send(text, at=at))

    async def run(self) -> None:
        """Serve until it is stopped."""
        try:
            async with self.served() as address:
                self.url, self.port = address.url, address.port
                self._up.set()
                await self._stop.wait()
        finally:
            self._down.set()

    def served(self) -> AbstractAsyncContextManager[Address]:
        """How it is served: here everybody may do everything, and no supplier is there."""
        return self.shop.serve(port=self.port)

    def stop(self) -> None:
        """End serving, and wait until nobody answers any more: while it ends, requests still may succeed."""
        self._loop.call_soon_threadsafe(self._stop.set)
        assert self._down.wait(30)

    def wait(self) -> None:
        """Until it is served."""
        assert self._up.wait(30)


@contextmanager
def serve_floor(port: int = 0) -> Iterator[Floor]:
    """A served floor for as long as the context lasts, on a free port unless one is given."""
    with running(lambda loop: Floor(loop, port)) as floor:
        yield floor


@contextmanager
def running(make: Callable[[asyncio.AbstractEventLoop], F]) -> Iterator[F]:
    """A floor of some kind in a loop of its own, served for as long as the context lasts."""
    loop = uvloop.new_event_loop()
    floor = make(loop)
    thread = threading.Thread(target=lambda: loop.run_until_complete(floor.run()))
    thread.start()
    try:
        floor.wait()
        yield floor
    finally:
        floor.stop()
        thread.join(30)
        loop.close()


def machine(device: str, at: float) -> bytes:
    """A plausible record of a machine: it cuts, pauses, warms up and cools down; `at` in seconds."""
    phase = zlib.crc32(device.encode()) % 1500
    load = max(0.0, math.sin((at + phase) / 240)) ** 0.5 * (1 + 0.08 * math.sin((at + phase) / 3))
    temperature = 31 + 28 * max(0.0, math.sin((at + phase - 60) / 240)) + 0.2 * math.sin(at)
    speed = 8000 * (load > 0.05) + 15 * math.sin(at * 1.7 + phase)
    flow = 12.5 * (load > 0.02) + 0.1 * math.sin(at / 2)
    voltage = 398 + 2.5 * math.sin((at + phase) / 47) + 0.4 * math.sin(at * 2.1)
    values = temperature, max(0.0, speed), max(0.0, flow), 0.4 + 11 * load, voltage
    return record(device, *(round(value, 2) for value in values))


def fill(floor: Floor, devices: list[str], end_ms: int, *, seconds: int = 3600, step: int = 5) -> None:
    """An hour of history with some rejects and connections, ending at a time."""
    floor.do(
        lambda: floor.shop.send(
            b"", events=[Opened(n, f"10.0.0.{n}:50{n:03}") for n in range(2, 9)], at=end_ms - seconds * 1000
        )
    )
    for second in range(seconds, 0, -step):
        at = end_ms - second * 1000
        text = b"".join(machine(device, at / 1000) for device in devices)
        if second % 600 < step:
            first = devices[0].encode()
            text += (
                first + b",35.2,8000#" + first + b",nan,8000,2.5,3.7,380#" + first + b",1\x00\xff,2,3,4,5#"
            )
        floor.send(text, at=at)
    closed = [Closed(3, "closed", 1234), Closed(5, "reset", 99), Closed(6, "idle_timeout", 0)]
    floor.do(lambda: floor.shop.send(b"", events=closed, at=end_ms))
