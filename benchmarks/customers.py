"""Customers of the order gateway, in a process of their own: they have a token and stay connected.

With a rate they come by the clock, whether those before them were answered or not, and an answer's time
counts from the moment the order was due: a gateway that stands still is charged for all who would have come.
Without one each connection orders again as soon as it was answered.
"""

import asyncio
import time
from collections.abc import Awaitable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final
from uuid import uuid4

import msgspec
import uvloop

_BODY: Final = (
    b'{"base":"Base 40mm","amount":40,"drilling":"3 second Drilling",'
    b'"cleaning":"Without","pressing":"Without","inspection":"Complete"}'
)
_HEAD: Final = (
    "POST /api/v1/orders HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\n"
    "Content-Type: application/json\r\nContent-Length: {}\r\nIdempotency-Key: {}\r\n\r\n"
)
_PATIENCE_S: Final = 20.0
"""Whoever waits longer has timed out."""

_LATE_S: Final = 60.0


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Who comes, and for how long."""

    port: int
    token: str
    connections: int
    seconds: float
    rate: float | None = None
    """Orders per second, all connections together."""


class Heard(msgspec.Struct, frozen=True):
    """What the customers heard."""

    latencies: dict[int, list[float]]
    """By status: the seconds that each answer took; status 0 where there was none."""

    seconds: float
    """From the first order to the last answer."""

    def count(self, status: int) -> int:
        """How many answers were this one."""
        return len(self.latencies.get(status, ()))

    @property
    def others(self) -> int:
        """How many were neither placed nor refused for the moment."""
        return sum(len(found) for status, found in self.latencies.items() if status not in (200, 503))


def order(load: Load) -> Heard:
    """Let them come, from a process of its own; what they heard."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_order, load).result(load.seconds + _LATE_S)


def _order(load: Load) -> Heard:
    return uvloop.run(_Customers(load).run())


class _Customers:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._latencies: dict[int, list[float]] = {}
        self._last = 0.0

    async def run(self) -> Heard:
        begun = self._last = time.perf_counter()
        due = _due(self._load, begun)
        async with asyncio.TaskGroup() as group:
            for _ in range(self._load.connections):
                group.create_task(self._customer(due))
        return Heard(self._latencies, self._last - begun)

    async def _customer(self, due: "_Due") -> None:
        """One connection, for as long as there are orders; opened anew where it ended."""
        connection: _Connection | None = None
        while (at := due.next()) is not None:
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            connection = connection or _Connection(self._load)
            status = await _patiently(connection.order())
            self._last = time.perf_counter()
            self._latencies.setdefault(status, []).append(self._last - at)
            if not status or connection.is_closing:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()


class _Due:
    """When the next order comes; None when it is over."""

    def __init__(self, begun: float, seconds: float, every_s: float | None) -> None:
        self._end = begun + seconds
        self._every_s = every_s
        self._next = begun

    def next(self) -> float | None:
        """In the order of time, whichever connection is free."""
        at = time.perf_counter() if self._every_s is None else self._next
        if at >= self._end:
            return None
        self._next = at + (self._every_s or 0.0)
        return at


def _due(load: Load, begun: float) -> _Due:
    return _Due(begun, load.seconds, None if load.rate is None else 1 / load.rate)


class _Connection:
    """HTTP/1.1 as far as this one request needs it."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.is_closing = False

    async def order(self) -> int:
        """The answer's status."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._load.port)
        reader, writer = self._streams
        head = _HEAD.format(self._load.token, len(_BODY), uuid4().hex)
        writer.write(head.encode() + _BODY)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(answer.partition(b"content-length: ")[2].partition(b"\r")[0]))
        self.is_closing = b"connection: close" in answer
        return int(answer.split(b" ", 2)[1])

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()


async def _patiently(status: Awaitable[int]) -> int:
    """The status; 0 where the connection ended, or the customer's patience."""
    try:
        return await asyncio.wait_for(status, _PATIENCE_S)
    except (OSError, EOFError, TimeoutError):
        return 0
