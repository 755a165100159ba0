"""Deadlines: who delivers nothing is closed, with a reason; not who is slow but whole, or paused by us."""

import asyncio
import errno
import os
import socket
from contextlib import suppress

import pytest

from ingest.connection import SHARE, Connection
from ingest.settings import IngestSettings
from parser.framing import Ending
from tests.ingest.floor import RECORD, Floor, Machine, floor, reached


def _only(shop: Floor) -> Connection:
    [connection] = shop.listener.connections
    return connection


async def _sent(machine: Machine, data: bytes, shop: Floor) -> Connection:
    """Send, and wait until it was heard."""
    connection = _only(shop)
    before = connection.bytes
    await machine.send(data)
    await reached(lambda: connection.bytes == before + len(data), "the bytes")
    return connection


async def _swept_away(shop: Floor) -> str:
    """Sweep, and say why the connection ended."""
    shop.listener._sweep()
    await reached(lambda: shop.closed, "the closing")
    return shop.closed[0].why


async def test_a_byte_now_and_then_is_no_record() -> None:
    """However often something is heard: without a whole record the first deadline passes."""
    settings = IngestSettings(port=0, tick_ms=1, first_record_timeout_s=0.3)
    async with floor(settings) as shop:
        machine = await shop.connect()
        with suppress(ConnectionError):
            while not shop.closed:
                await machine.send(b"E")
                await asyncio.sleep(0.01)
        await reached(lambda: shop.closed, "the closing")
        assert shop.closed[0].why == "no_record"
        assert shop.endings[-1] is Ending.TIMEOUT
        machine.writer.close()


async def test_a_silent_machine_has_brought_no_record_either() -> None:
    async with floor() as shop:
        machine = await shop.connect()
        _only(shop).begun -= 299
        shop.listener._sweep()
        assert not shop.closed
        _only(shop).begun -= 2
        assert await _swept_away(shop) == "no_record"
        assert await machine.rest() == b""


@pytest.mark.parametrize("first", [RECORD, b"nonsense#", b"#", b"x" * 600])
async def test_any_record_meets_the_first_deadline(first: bytes) -> None:
    """Also a bad or empty one, and one that is too long."""
    async with floor() as shop:
        machine = await shop.connect()
        connection = await _sent(machine, first, shop)
        connection.begun -= 1000
        shop.listener._sweep()
        assert not shop.closed
        await machine.close()


async def test_a_record_that_is_never_finished_is_cut_off() -> None:
    """Those before it are stored."""
    async with floor() as shop:
        machine = await shop.connect()
        connection = await _sent(machine, RECORD * 3 + b"E0001,35", shop)
        connection.begun -= 61
        await _sent(machine, b".", shop)
        assert await _swept_away(shop) == "slow_record"
        assert shop.endings == [Ending.DELIMITER, Ending.TIMEOUT]
        assert shop.stream(machine.number) == RECORD * 3 + b"E0001,35.#"
        assert await machine.rest() == b""


async def test_a_line_break_behind_a_record_begins_none() -> None:
    """A machine that sends one may rest as long as it likes; the next record has all its time."""
    async with floor() as shop:
        machine = await shop.connect()
        connection = await _sent(machine, RECORD + b"\r\n", shop)
        connection.begun -= 1000
        shop.listener._sweep()
        assert not shop.closed
        await _sent(machine, b"E0001,", shop)
        shop.listener._sweep()
        assert not shop.closed
        await _sent(machine, RECORD[6:] + b"\r\n", shop)
        await reached(lambda: shop.records == 2, "the second record")
        await machine.close()


async def test_deadlines_stand_still_while_we_pause() -> None:
    """Also that of a record which was begun before."""
    async with floor() as shop:
        machine = await shop.connect()
        connection = await _sent(machine, RECORD + b"E0001,35", shop)
        begun = connection.begun
        shop.listener.gate.close("test")
        connection._held_since -= 1000
        connection.begun -= 1000
        shop.listener._sweep()
        assert not shop.closed
        shop.listener.gate.open("test")
        assert connection.begun >= begun
        shop.listener._sweep()
        assert not shop.closed
        await machine.close()


@pytest.mark.parametrize("rate", [1_000.0, 100_000.0])
async def test_white_space_above_its_share_is_no_record(rate: float) -> None:
    """Its pauses are its own doing: they don't put the first deadline off."""
    settings = IngestSettings(port=0, tick_ms=1, max_bytes_per_s=rate, first_record_timeout_s=0.3)
    async with floor(settings) as shop:
        machine = await shop.connect()

        async def pour() -> None:
            with suppress(ConnectionError):
                while True:
                    await machine.send(b" " * 4096)
                    await asyncio.sleep(0.001)

        pouring = asyncio.create_task(pour())
        await reached(lambda: shop.closed, "the closing")
        pouring.cancel()
        assert shop.closed[0].why == "no_record"
        assert shop.records == 0
        machine.writer.close()


async def test_a_gate_puts_the_first_deadline_off_though_a_share_does_not() -> None:
    """Whichever comes first, and whichever stays."""
    async with floor(IngestSettings(port=0, tick_ms=1, max_bytes_per_s=1.0, idle_timeout_s=10.0)) as shop:
        machine = await shop.connect()
        connection = await _sent(machine, b" " * 1000, shop)
        assert connection.held == SHARE
        begun = connection.begun
        shop.listener.gate.close("test")
        connection._held_since -= 1000
        connection.begun -= 1000
        connection.heard -= 1000
        shop.listener._sweep()
        assert not shop.closed
        shop.listener.gate.open("test")
        assert connection.held == SHARE
        assert connection.begun >= begun
        shop.listener._sweep()
        assert not shop.closed, "of silence a share takes no account"
        connection.begun -= 301
        assert await _swept_away(shop) == "no_record"
        await machine.rest()


async def _swept_in_time(shop: Floor) -> None:
    """Have the timer of the sweep come, and wait until it has swept."""
    due = shop.listener._sweep_due
    shop.listener._sweep_soon()
    await reached(lambda: shop.listener._sweep_due != due, "the sweep")


async def test_who_sends_is_not_idle_however_long_a_tick_is() -> None:
    """What waits for the tick was heard; behind the tick silence counts from there."""
    settings = IngestSettings(port=0, tick_ms=6_000, idle_timeout_s=3.0)
    async with floor(settings) as shop:
        with socket.create_connection(("127.0.0.1", shop.listener.ports[0])) as machine:
            await reached(lambda: shop.listener.connections, "the connection")
            connection = _only(shop)
            machine.sendall(RECORD)
            await reached(lambda: connection.bytes == len(RECORD), "the record")
            connection.heard -= 4
            shop.listener._sweep()
            assert connection.ending is None
            shop.listener.assembler.tick()
            connection.heard -= 4
            shop.listener._sweep()
            assert connection.ending is Ending.TIMEOUT


async def test_deadlines_stand_still_while_we_do() -> None:
    """A sweep that comes far too late takes nobody's time; one that comes a little late forgives nothing."""
    async with floor() as shop:
        machine = await shop.connect()
        connection = await _sent(machine, RECORD + b"E0001,35", shop)
        connection.begun -= 1000 + 30
        shop.listener._sweep_due -= 1001
        await _swept_in_time(shop)
        assert not shop.closed
        assert 29 <= shop.listener.now() - connection.begun < 60
        connection.begun -= 31
        await _swept_in_time(shop)
        await reached(lambda: shop.closed, "the closing")
        assert shop.closed[0].why == "slow_record"
        await machine.rest()


async def test_standing_still_is_forgiven_once() -> None:
    """Who was held meanwhile has it back when it is let go, and nobody is heard later than now."""
    async with floor() as shop:
        machine = await shop.connect()
        connection = await _sent(machine, RECORD + b"E0001,35", shop)
        begun = connection.begun
        shop.listener._sweep_due -= 1001
        shop.listener.gate.close("test")
        await _swept_in_time(shop)
        assert connection.begun == begun
        shop.listener.gate.open("test")
        shop.listener._sweep_due -= 1001
        await _swept_in_time(shop)
        assert connection.begun <= shop.listener.now()
        assert connection.heard <= shop.listener.now()
        await machine.close()


@pytest.mark.parametrize("sent", [RECORD, RECORD + b"E0001,35"])
async def test_what_came_in_time_is_read_before_a_deadline_is_judged(sent: bytes) -> None:
    """It lies in the kernel when the sweep's timer comes, and no tick has told of it yet."""
    async with floor(IngestSettings(port=0, tick_ms=10_000)) as shop:
        with socket.create_connection(("127.0.0.1", shop.listener.ports[0])) as machine:
            await reached(lambda: shop.listener.connections, "the connection")
            connection = _only(shop)
            machine.sendall(sent)
            connection.begun -= 301
            connection.heard -= 3601
            await _swept_in_time(shop)
            assert connection.bytes == len(sent)
            assert connection.ending is None


async def test_who_was_cut_off_is_read_no_more() -> None:
    """Nothing of a connection comes after its closing, also while its last acknowledgement is waited for."""
    async with floor() as shop:
        machine = await shop.connect(acknowledged=True)
        connection = await _sent(machine, RECORD + b"E0001,35", shop)
        shop.commits = False
        connection.begun -= 61
        assert await _swept_away(shop) == "slow_record"
        machine.writer.write(RECORD * 10)
        for _ in range(50):
            await asyncio.sleep(0.002)
        assert shop.records == 2
        shop.commit()
        await machine.rest()


def _socket_of(connection: Connection) -> socket.socket:
    """The same socket by another descriptor."""
    number = connection._transport.get_extra_info("socket").fileno()
    return socket.socket(fileno=os.dup(number))


async def test_the_kernel_looks_after_silent_connections() -> None:
    """It asks, and gives up half as long again after it began to ask; unsent bytes count the same."""
    async with floor(IngestSettings(port=0, tick_ms=1, keepalive_s=60)) as shop:
        machine = await shop.connect()
        with _socket_of(_only(shop)) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 90_000
        await machine.close()


async def test_a_connection_that_the_kernel_gave_up_has_timed_out() -> None:
    """Here for real: bytes that the other side doesn't take, though it is there."""
    async with floor() as shop:
        loop = asyncio.get_running_loop()
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            await loop.sock_connect(deaf, ("127.0.0.1", shop.listener.ports[1]))
            await reached(lambda: shop.opened, "the opening")
            connection = _only(shop)
            with _socket_of(connection) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 100)
            connection._transport.write(b"x" * 8_000_000)
            await reached(lambda: shop.closed, "the closing")
        assert shop.closed[0].why == "timed_out"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (TimeoutError(errno.ETIMEDOUT, "timed out"), "timed_out"),
        (OSError(errno.EHOSTUNREACH, "no route"), "unreachable"),
        (OSError(errno.ENETUNREACH, "no network"), "unreachable"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "reset"),
        (BrokenPipeError(errno.EPIPE, "pipe"), "reset"),
        (OSError("no number"), "reset"),
        (None, "reset"),
    ],
)
async def test_a_lost_connection_says_how(error: Exception | None, why: str) -> None:
    """By what the kernel says of it; what was begun is cut off as after any loss."""
    async with floor() as shop:
        machine = await shop.connect()
        connection = await _sent(machine, RECORD + b"E0001", shop)
        connection.connection_lost(error)
        connection.abort()
        await reached(lambda: shop.closed, "the closing")
        assert shop.closed[0].why == why
        assert shop.endings[-1] is Ending.RESET
        await machine.rest()
