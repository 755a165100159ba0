"""Shares: what gets in is what the rate allows, only reading is paused, and nothing is dropped."""

import asyncio
import heapq
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from structlog.testing import capture_logs

from ingest import shares
from ingest.connection import GATE, SHARE, Connection
from ingest.metrics import IngestMetrics
from ingest.settings import IngestSettings
from ingest.shares import Shares, receive_buffer
from parser.settings import Rules
from tests.ingest import tls
from tests.ingest.floor import RECORD, Floor, floor, reached
from tests.ingest.floor import Machine as Sender
from tests.support.certificates import Certificates as Plant

READ = 65_536


class Timer:
    """Something that will happen, unless it is cancelled."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Let it not happen."""
        self.callback = None


class Clock:
    """A loop as far as shares need one; time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = count()
        self._timers: list[tuple[float, int, Timer]] = []

    def time(self) -> float:
        """Seconds."""
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call it when the time has come."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (self.now + delay, next(self._order), timer))
        return timer

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and timers come."""
        until = self.now + seconds
        while self._timers and self._timers[0][0] <= until:
            self.now, _, timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                timer.callback()
        self.now = until


class Machine:
    """A connection as its share sees it: reads what was sent whenever nothing holds it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.id, self.peer, self.ending = 1, "10.0.0.1:1", None
        self.address, self.identity = ("10.0.0.1", 1), None
        self.held, self.sent_all = 0, False
        self.waiting = b""
        self.got = b""
        self.protocol: asyncio.Protocol | None = None

    def deliver_to(self, protocol: asyncio.Protocol) -> None:
        """As a connection has it."""
        self.protocol = protocol

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        self.got += data

    def hold(self, why: int, now: float) -> None:
        """Read no more."""
        assert now == self._clock.now
        self.held |= why

    def let_go(self, why: int, now: float) -> None:
        """Read on."""
        assert now == self._clock.now
        self.held &= ~why
        self.read()

    def read(self) -> None:
        """What the transport does while it may."""
        while self.waiting and not self.held:
            data, self.waiting = self.waiting[:READ], self.waiting[READ:]
            assert self.protocol is not None
            self.protocol.data_received(data)


class ShareModel(RuleBasedStateMachine):
    """A machine with a share, against the two promises: never more than the rate, and never stuck.

    However often it comes back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.machine = Machine(self.clock)
        self.settings = IngestSettings(max_records_per_s=1000.0, max_bytes_per_s=20_000.0)
        self.shares = Shares(self.settings, b"#", IngestMetrics(), self.clock)
        self.shares.give(cast("Connection", self.machine))
        self.sent = b""
        self.came = 1

    @rule(size=st.integers(1, 5000), record=st.sampled_from([b"#", b"E0001,1,2,3,4,5#", b"x" * 200 + b"#"]))
    def send(self, size: int, record: bytes) -> None:
        """Some records."""
        self.sent += record * size
        self.machine.waiting += record * size
        self.machine.read()

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.pass_time(seconds)
        self.shares.sweep()

    @precondition(lambda self: not self.machine.waiting)
    @rule()
    def come_back(self) -> None:
        """The machine closes when all was read, and connects anew."""
        self.shares.forget(cast("Connection", self.machine))
        self.machine.held &= ~SHARE
        self.shares.give(cast("Connection", self.machine))
        self.came += 1

    @rule()
    def close_the_gate(self) -> None:
        """For a reason that is not this machine's."""
        self.machine.hold(GATE, self.clock.now)

    @rule()
    def open_the_gate(self) -> None:
        """It is over."""
        self.machine.let_go(GATE, self.clock.now)

    @precondition(lambda self: self.machine.waiting)
    @rule()
    def wait_for_all(self) -> None:
        """Whatever it has sent arrives, in about the time that its share says."""
        self.machine.let_go(GATE, self.clock.now)
        waits = max(self.sent.count(b"#") / 1000, len(self.sent) / 20_000)
        self.clock.pass_time(waits + 1)
        assert not self.machine.waiting

    @invariant()
    def no_more_than_the_rate(self) -> None:
        """A second's worth, what came since, and one read each time it came."""
        seconds, reads = 1 + self.clock.now, READ * self.came
        assert len(self.machine.got) <= 20_000 * seconds + reads + 1e-3
        assert self.machine.got.count(b"#") <= 1000 * seconds + reads + 1e-3

    @invariant()
    def nothing_is_dropped(self) -> None:
        """And nothing changes places."""
        assert self.machine.got + self.machine.waiting == self.sent

    @invariant()
    def a_throttle_has_an_end(self) -> None:
        """Who is paused is throttled; who has not been for long isn't."""
        throttled = self.shares._metrics.throttled._value.get()
        assert throttled or not self.machine.held & SHARE


TestShareModel = ShareModel.TestCase
TestShareModel.settings = settings(max_examples=50)


def _settings(**limits: float) -> IngestSettings:
    return IngestSettings(port=0, ack_port=0, tick_ms=1, **limits)  # type: ignore[arg-type]


@asynccontextmanager
async def _throttling(plant: Plant, *, encrypted: bool) -> AsyncIterator[Floor]:
    """A listener at which 100 records are a quarter of an hour's share."""
    limits = {"max_records_per_s": 0.1, "max_connections": 1}
    async with floor(tls.settings(plant, **limits) if encrypted else _settings(**limits)) as shop:
        yield shop


async def _come(shop: Floor, plant: Plant, *, encrypted: bool) -> Sender:
    return await (tls.connect(shop, tls.client(plant)) if encrypted else shop.connect())


async def _say_the_end(machine: Sender, *, encrypted: bool) -> None:
    """By TLS and by TCP; the library's own client would wait for an answer in between."""
    if encrypted:
        machine.writer.close()
        for _ in range(10):  # until that has left
            await asyncio.sleep(0)
    with socket.socket(fileno=os.dup(machine.writer.get_extra_info("socket").fileno())) as sock:
        sock.shutdown(socket.SHUT_WR)


def _only(shop: Floor) -> Connection:
    [connection] = shop.listener.connections
    return connection


async def test_on_real_sockets_the_rate_holds_and_all_arrives() -> None:
    """However fast the machine sends; another one feels nothing of it."""
    rate = 50_000
    async with floor(_settings(max_records_per_s=rate)) as shop:
        fast, other = await shop.connect(), await shop.connect()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        sending = asyncio.create_task(fast.send(RECORD * 130_000))
        await other.send(RECORD * 10)
        await reached(lambda: shop.stream(other.number), "the other one's records")
        one_read = 256_000 // len(RECORD)
        while shop.records < 130_010:
            assert shop.records <= rate * (1 + loop.time() - begun) + 2 * one_read
            await asyncio.sleep(0.005)
        await sending
        assert shop.stream(fast.number) == RECORD * 130_000
        assert shop.metrics.throttles.labels("max_records_per_s")._value.get() == 1
        assert shop.metrics.throttled_seconds._value.get() > 0
        await fast.close()
        await other.close()


async def test_a_throttle_is_a_line_at_each_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often reading pauses in between; a connection that ends in it has its own."""
    monkeypatch.setattr(shares, "_CALM_S", 0.0)
    with capture_logs() as lines:
        async with floor(_settings(max_bytes_per_s=100_000)) as shop:
            machine = await shop.connect()
            await machine.send(RECORD * 4000)
            await reached(lambda: _only(shop).held == SHARE, "the pause")
            assert shop.metrics.throttled._value.get() == 1
            await reached(lambda: shop.records == 4000 and not _only(shop).held, "the end of the last pause")
            shop.listener.shares.sweep()
            assert shop.metrics.throttled._value.get() == 0
            await machine.send(RECORD * 5000)
            await reached(lambda: _only(shop).held == SHARE, "another pause")
            machine.writer.close()
    said = [line for line in lines if "thrott" in line["event"] or line["event"] == "connection_goes_on"]
    assert [line["event"] for line in said] == [
        "connection_throttled",
        "connection_goes_on",
        "connection_throttled",
        "throttled_connection_ended",
    ]
    assert {line["limit"] for line in said} == {"max_bytes_per_s"}
    assert {line["connection"] for line in said} == {machine.number}
    assert said[0]["peer"].startswith("127.0.0.1:")


class StandingStill:
    """A loop whose clock stands still."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time()

    def time(self) -> float:
        """Always the same."""
        return self._now

    def call_later(self, delay: float, callback: Callable[[], object], /) -> asyncio.TimerHandle:
        """As the loop does."""
        return self._loop.call_later(delay, callback)


async def test_coming_back_brings_no_new_share() -> None:
    """What one connection has left is all that the next one of the same address has."""
    async with floor(_settings(max_records_per_s=100.0)) as shop:
        shop.listener.shares.loop = StandingStill()
        throttles = shop.metrics.throttles.labels("max_records_per_s")._value
        first = await shop.connect()
        await first.send(RECORD * 90)
        await reached(lambda: shop.records == 90, "what the first one sent")
        await first.close()
        await reached(lambda: not shop.listener.connections, "its end")
        assert throttles.get() == 0
        second = await shop.connect()
        await second.send(RECORD * 90)
        await reached(lambda: throttles.get() == 1, "the throttle")
        await second.close()


async def test_gate_and_share_keep_their_reasons_apart() -> None:
    """Reading goes on when neither has one; meanwhile no deadline runs."""
    async with floor(_settings(max_records_per_s=100.0)) as shop:
        machine = await shop.connect()
        await machine.send(RECORD * 160)
        await reached(lambda: shop.records == 160, "the first read")
        connection = _only(shop)
        assert connection.held == SHARE
        shop.listener.gate.close("test")
        shop.listener.gate.open("test")
        assert connection.held == SHARE
        connection.heard -= 10_000
        shop.listener._sweep()
        assert not shop.closed
        shop.listener.gate.close("test")
        await reached(lambda: connection.held == GATE, "the debt is paid")
        await machine.send(RECORD)
        shop.listener.gate.open("test")
        await reached(lambda: shop.records == 161, "what came after it")
        await machine.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has gone is let go at the next sweep."""
    monkeypatch.setattr(shares, "_LEAST_LAST_PAUSE_S", 0.0)


async def _owing(shop: Floor, machine: Sender) -> Connection:
    """Records that are an hour's worth, of which some wait to be read."""
    connection = _only(shop)
    await machine.send(RECORD * 400)
    await reached(lambda: connection.held == SHARE, "the pause")
    machine.writer.write(RECORD * 100)
    await machine.writer.drain()
    return connection


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
async def test_who_closes_in_a_pause_is_read_to_the_end(certificates: Plant, *, encrypted: bool) -> None:
    """All of it, at once, and its place is free: it was sent, and nothing can follow."""
    async with _throttling(certificates, encrypted=encrypted) as shop:
        machine = await _come(shop, certificates, encrypted=encrypted)
        await _owing(shop, machine)
        await _say_the_end(machine, encrypted=encrypted)
        await reached(lambda: not shop.listener.connections, "the end")
        await reached(lambda: shop.closed, "the closing")
        assert shop.stream(machine.number) == RECORD * 500
        assert shop.closed[0].why == "closed"
        assert shop.listener.admission.taken == 0
        assert shop.metrics.throttled._value.get() == 0
        machine.writer.transport.abort()


@pytest.mark.usefixtures("impatient")
async def test_who_closes_in_a_pause_is_acknowledged_all(certificates: Plant) -> None:
    """As anybody is who has half closed."""
    async with _throttling(certificates, encrypted=False) as shop:
        machine = await shop.connect(acknowledged=True)
        await _owing(shop, machine)
        await _say_the_end(machine, encrypted=False)
        assert (await machine.rest()).endswith(b"ACK,500#")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
async def test_who_is_lost_in_a_pause_keeps_no_place(certificates: Plant, *, encrypted: bool) -> None:
    """What was read before stays, what the kernel still has is read, and it may come back."""
    async with _throttling(certificates, encrypted=encrypted) as shop:
        machine = await _come(shop, certificates, encrypted=encrypted)
        await _owing(shop, machine)
        machine.reset()
        await reached(lambda: not shop.listener.connections, "the end")
        await reached(lambda: shop.closed, "the closing")
        assert shop.closed[0].why == "reset"
        assert shop.records >= 400
        assert shop.listener.admission.taken == 0
        again = await _come(shop, certificates, encrypted=encrypted)
        await again.send(RECORD)
        await reached(lambda: len(shop.stream(again.number)) == len(RECORD), "its record")
        again.reset()


@pytest.mark.usefixtures("impatient")
async def test_who_is_still_there_stays_paused() -> None:
    """However often the kernel is asked."""
    async with floor(_settings(max_records_per_s=0.1)) as shop:
        machine = await shop.connect()
        connection = await _owing(shop, machine)
        for _ in range(10):
            shop.listener.shares.sweep()
        assert connection.held == SHARE
        machine.reset()


def test_closing_and_coming_back_is_not_the_faster_way() -> None:
    """Who has gone is paused for a while all the same, then read to its end and never paused again."""
    clock = Clock()
    machine = Machine(clock)
    machine.sent_all = True
    owner = Shares(IngestSettings(max_records_per_s=1.0), b"#", IngestMetrics(), clock)
    owner.give(cast("Connection", machine))
    machine.waiting = b"#" * (3 * READ)
    machine.read()
    clock.pass_time(4.9)
    owner.sweep()
    assert machine.held == SHARE
    assert len(machine.got) == READ
    clock.pass_time(0.2)
    owner.sweep()
    assert not machine.held
    assert len(machine.got) == 3 * READ


async def test_shares_come_and_go_while_machines_are_connected() -> None:
    """A new limit counts at once; without one, who was paused goes on at once."""
    async with floor(_settings()) as shop:
        machine = await shop.connect(acknowledged=True)
        await machine.send(RECORD * 100)
        await reached(lambda: shop.records == 100, "what came without a limit")
        assert _only(shop).held == 0
        shop.listener.change(_settings(max_records_per_s=0.1), Rules())
        await machine.send(RECORD * 100)
        await reached(lambda: _only(shop).held == SHARE, "the pause")
        shop.listener.change(_settings(max_records_per_s=0.1, max_connections=5), Rules())
        assert _only(shop).held == SHARE, "the same limit changes nothing"
        shop.listener.change(_settings(), Rules())
        assert _only(shop).held == 0
        await machine.send(RECORD * 100)
        while await machine.acknowledged() < 300:
            pass
        await machine.close()


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        ({}, None),
        ({"max_bytes_per_s": 50_000.0}, 50_000),
        ({"max_records_per_s": 100.0}, 51_200),
        ({"max_records_per_s": 100.0, "max_bytes_per_s": 20_000.0}, 20_000),
        ({"max_bytes_per_s": 100.0}, 16_384),
        ({"max_bytes_per_s": 1e9}, None),
    ],
)
def test_the_kernel_keeps_a_seconds_worth_of_a_share(limits: dict[str, float], size: int | None) -> None:
    """So nothing of a stranger is read for minutes after it has gone; a large share is left to the kernel."""
    assert receive_buffer(IngestSettings(**limits)) == size  # type: ignore[arg-type]  # only numbers


async def test_a_connection_with_a_share_has_a_small_buffer() -> None:
    limited = IngestSettings(port=0, ack_port=0, tick_ms=1, max_bytes_per_s=50_000.0)
    async with floor(limited) as shop:
        machine = await shop.connect()
        [connection] = shop.listener.connections
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 2 * 50_000
        await machine.close()
