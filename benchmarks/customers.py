"""Customers of the order gateway, in a process of their own: they have a token and stay connected.

With a rate they come by the clock, whether those before them were answered or not, and an answer's time
counts from the moment the order was due: a gateway that stands still is charged for all who would have come.
Without one each connection orders again as soon as it was answered.
"""

import asyncio
import secrets
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final, cast

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
    """What all connections share: when the next order is due, and what was heard."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._prefix = secrets.token_hex(16)
        self._number = 0
        self._begun = self._next = self._last = time.perf_counter()
        self._latencies: dict[int, list[float]] = {}

    async def run(self) -> Heard:
        """All of them, from the first order to the last answer."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._load.connections):
                group.create_task(self._connect())
        return Heard(self._latencies, self._last - self._begun)

    def due(self) -> float | None:
        """When the next order comes, for whichever connection is free; None when it is over."""
        rate = self._load.rate
        at = time.perf_counter() if rate is None else self._next
        if at >= self._begun + self._load.seconds:
            return None
        self._next = at + (1 / rate if rate else 0)
        return at

    def request(self) -> bytes:
        """An order with a key of its own."""
        self._number += 1
        return _HEAD.format(self._load.token, len(_BODY), f"{self._prefix}{self._number}").encode() + _BODY

    def heard(self, status: int, at: float) -> None:
        """The answer to an order that was due then has come."""
        self._last = time.perf_counter()
        self._latencies.setdefault(status, []).append(self._last - at)

    async def _connect(self) -> None:
        """One connection, opened anew where it ended before all was over."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                _, connection = await loop.create_connection(
                    lambda: _Connection(self), "127.0.0.1", self._load.port
                )
            except OSError:
                if (at := self.due()) is None:
                    return
                self.heard(0, at)
            else:
                if await connection.is_over:
                    return


class _Connection(asyncio.Protocol):
    """HTTP/1.1 as far as these orders need it, one at a time."""

    def __init__(self, customers: _Customers) -> None:
        self._customers = customers
        self._loop = asyncio.get_running_loop()
        self.is_over: asyncio.Future[bool] = self._loop.create_future()
        """When the connection has ended: whether that was because nothing more was to be ordered."""

        self._transport: asyncio.Transport | None = None
        self._at: float | None = None
        self._answer = b""
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._go_on()

    def data_received(self, data: bytes) -> None:
        """Take the answer, and go on when it is whole."""
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        head = head.lower()
        if not end or len(body) < int(head.partition(b"content-length: ")[2].partition(b"\r")[0]):
            return
        self._answer = b""
        self._heard(int(head.split(b" ", 2)[1]))
        if b"connection: close" in head and self._transport is not None:
            self._transport.close()
        else:
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """An order under way will not be answered."""
        del exc
        self._heard(0)
        if not self.is_over.done():
            self.is_over.set_result(False)

    def _go_on(self) -> None:
        """Order when the next order is due, or hang up."""
        at = self._customers.due()
        if at is not None:
            self._loop.call_later(max(0.0, at - time.perf_counter()), self._order, at)
        elif self._transport is not None:
            self.is_over.set_result(True)
            self._transport.close()

    def _order(self, at: float) -> None:
        self._at = at
        if self._transport is None or self._transport.is_closing():
            self._heard(0)
            return
        self._patience = self._loop.call_later(_PATIENCE_S, self._transport.abort)
        self._transport.write(self._customers.request())

    def _heard(self, status: int) -> None:
        if self._patience is not None:
            self._patience.cancel()
        if self._at is not None:
            self._customers.heard(status, self._at)
            self._at = None
