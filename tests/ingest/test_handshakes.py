"""Handshakes on real sockets: who is let in, who is not and why, and that none holds up another."""

import asyncio
import gc
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import structlog

from headrace.authority import make_device
from ingest import admission
from ingest.encrypted import Encrypted
from parser.framing import Ending
from tests.ingest.floor import RECORD, floor, reached
from tests.ingest.tls import client, connect, first_word, refused, say, settings
from tests.support.certificates import Certificates as Plant
from tests.support.certificates import of_a_later_version

pytestmark = pytest.mark.usefixtures("nothing_unexpected")


@pytest.mark.parametrize(
    "data",
    [
        b"E0001,35.2,8000,2.5,3.7,380#",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\0" + b"\xff" * 512,
        b"\x16\x03\x01\x00\x31\x01\x00\x00\x2d\x03\x02" + bytes(32) + b"\0\0\x04\xc0\x13\x00\x2f\x01\0\0\0",
    ],
    ids=["plain", "http", "nonsense", "tls-1.1"],
)
async def test_whoever_speaks_no_tls_of_today_is_refused(certificates: Plant, data: bytes) -> None:
    """A machine without TLS, a browser, a scanner, and TLS 1.1: counted, in no table, nothing stored."""
    async with floor(settings(certificates)) as shop:
        stranger = await say(shop, data)
        answer = await stranger.rest()
        assert answer[:1] in {b"", b"\x15"}  # nothing, or an alert
        await reached(lambda: refused(shop, "tls_failed") == 1, "the refusal")
        assert not shop.opened
        assert not shop.listener.connections


@pytest.mark.parametrize("name", [None, "stranger"])
async def test_a_machine_without_a_certificate_of_the_plant_is_refused(
    certificates: Plant, name: str | None
) -> None:
    """None at all, and one with a good name by another authority."""
    async with floor(settings(certificates)) as shop:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await first_word(shop, client(certificates, name))
        await reached(lambda: refused(shop, "tls_failed") == 1, "the refusal")
        assert not shop.opened


async def test_a_servers_certificate_is_none_for_a_machine(certificates: Plant) -> None:
    async with floor(settings(certificates)) as shop:
        context = client(certificates, None)
        context.load_cert_chain(certificates.server.certificate, certificates.server.key)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await first_word(shop, context)
        await reached(lambda: refused(shop, "tls_failed") == 1, "the refusal")


async def test_a_machine_whose_certificate_has_ended_is_refused(certificates: Plant) -> None:
    old = make_device(certificates.folder, "E0099", days=0)
    context = client(certificates, None)
    context.load_cert_chain(old.certificate, old.key)
    async with floor(settings(certificates)) as shop:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await first_word(shop, context)
        await reached(lambda: refused(shop, "tls_failed") == 1, "the refusal")


async def test_a_certificate_that_only_the_library_reads_is_refused(
    certificates: Plant, tmp_path: Path
) -> None:
    """OpenSSL takes one of version 4, which there is not: it is counted, and its place is free again."""
    later = of_a_later_version(certificates, tmp_path / "later.pem")
    context = client(certificates, None)
    context.load_cert_chain(later.certificate, later.key)
    async with floor(settings(certificates)) as shop:
        with suppress(ssl.SSLError, ConnectionError):
            await first_word(shop, context)
        await reached(lambda: refused(shop, "tls_failed") == 1, "the refusal")
        assert not shop.listener.admission.taken
        assert not shop.opened


@pytest.mark.parametrize("where", ["ingest.encrypted.issue_of", "ingest.shares.Shares.give"])
async def test_a_mistake_of_ours_in_a_handshake_costs_no_place(
    certificates: Plant, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Whether it is done by then or not: closed, counted, and the next one finds room."""

    def fails(*_: object) -> None:
        raise ZeroDivisionError("on purpose")

    async with floor(settings(certificates, max_connections=1)) as shop:
        with monkeypatch.context() as mistake:
            mistake.setattr(where, fails)
            with suppress(ssl.SSLError, ConnectionError):
                await first_word(shop, client(certificates))
            await reached(lambda: refused(shop, "failed") == 1, "the refusal")
            await reached(lambda: not shop.listener.connections, "the end of the connection")
        assert not shop.listener.admission.taken
        machine = await connect(shop, client(certificates))
        await machine.send(RECORD)
        await reached(lambda: shop.records == 1, "the record")
        await machine.close()


async def test_a_stalled_handshake_is_closed_at_its_deadline(certificates: Plant) -> None:
    """Silent from the start or in the middle; until then it counts as a connection."""
    limits = {"handshake_timeout_s": 1.0, "max_connections": 2}
    async with floor(settings(certificates, **limits)) as shop:
        silent = await say(shop, b"")
        stuck = await say(shop, b"\x16\x03\x01\x02\0\x01")
        await reached(lambda: len(shop.listener._adopting) == 2, "both")
        third = await say(shop, b"")
        assert await third.rest() == b""
        assert refused(shop, "too_many") == 1
        assert await silent.rest() == b""
        assert await stuck.rest() == b""
        assert refused(shop, "tls_timeout") == 2
        machine = await connect(shop, client(certificates))
        await machine.close()


async def test_time_in_which_a_client_waits_for_its_turn_is_not_its_own(
    certificates: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long others' handshakes take, its own has all the time that it may take."""
    waiting: list[Callable[[], None]] = []
    async with floor(settings(certificates, handshake_timeout_s=2.0)) as shop:
        with monkeypatch.context() as patched:
            patched.setattr(shop.listener._turns, "ask", lambda step, _: waiting.append(step))
            connecting = asyncio.create_task(connect(shop, client(certificates)))
            await reached(lambda: waiting, "its hello")
            await asyncio.sleep(2.2)
        assert refused(shop, "tls_timeout") == 0
        waiting[0]()
        machine = await connecting
        await machine.close()


@pytest.mark.parametrize("stands_still_s", [2.3, 3.5])
async def test_a_handshake_is_not_too_late_because_we_stand_still(
    certificates: Plant, stands_still_s: float
) -> None:
    """What came in time is read before it is given up, though the timer comes first; here for real."""
    async with floor(settings(certificates, handshake_timeout_s=2.0)) as shop:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client(certificates).wrap_bio(incoming, outgoing, server_hostname="localhost")
        with here, there, socket.create_connection(("127.0.0.1", shop.listener.ports[0])) as sock:
            sock.setblocking(False)
            while True:
                with suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                    break
                sock.sendall(outgoing.read())
                incoming.write(await loop.sock_recv(sock, 65_536))

            def stand_still() -> None:
                loop.remove_reader(here)
                sock.sendall(outgoing.read())
                time.sleep(stands_still_s)

            loop.add_reader(here, stand_still)  # behind it timers come before the next look at the sockets
            there.send(b"x")
            await reached(lambda: shop.opened or refused(shop, "tls_timeout"), "either")
            assert shop.opened


async def test_many_handshakes_at_once_are_all_done(certificates: Plant) -> None:
    """More than may wait before the others have to stay outside."""
    context = client(certificates)
    async with floor(settings(certificates)) as shop:

        async def deliver() -> None:
            _, writer = await asyncio.open_connection(
                "127.0.0.1", shop.listener.ports[0], ssl=context, server_hostname="localhost"
            )
            writer.write(RECORD)
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*(deliver() for _ in range(60)))
        await reached(lambda: shop.records == 60, "a record of each")


async def test_a_connection_that_goes_during_the_handshake_is_counted(certificates: Plant) -> None:
    """Closed or reset."""
    async with floor(settings(certificates)) as shop:
        closing = await say(shop, b"\x16\x03\x01")
        closing.writer.close()
        await reached(lambda: refused(shop, "tls_failed") == 1, "the refusal")
        for _ in range(20):
            breaking = await say(shop, b"\x16")
            breaking.reset()
        await reached(lambda: refused(shop, "tls_failed") + refused(shop, "gone") == 21, "the other refusals")
        await reached(lambda: not shop.listener._adopting, "the end of all handshakes")
        assert not shop.opened


async def test_the_end_of_the_server_ends_handshakes_and_streams(certificates: Plant) -> None:
    async with floor(settings(certificates)) as shop:
        machine = await connect(shop, client(certificates), acknowledged=True)
        stuck = await say(shop, b"\x16")
        await machine.send(RECORD + b"E0001,35")
        assert await machine.acknowledged() == 1
        await reached(lambda: shop.listener._adopting, "the handshake")
        shop.listener.stop()
        assert shop.endings[-1] is Ending.SHUTDOWN
        shop.listener.hang_up()
        assert await machine.rest() == b"", "what was cut off is not acknowledged"
        assert await stuck.rest() == b""
        await reached(lambda: not shop.listener._adopting, "the end of all handshakes")


async def test_handshakes_that_fail_leave_their_places(certificates: Plant) -> None:
    """Also those that are too late: who belongs here finds room."""
    limits = {"handshake_timeout_s": 1.0, "max_connections": 2, "max_connections_per_address": 2}
    async with floor(settings(certificates, **limits)) as shop:
        for word in (b"GET / HTTP/1.1\r\n\r\n", b"", b"\x16", RECORD):
            stranger = await say(shop, word)
            assert (await stranger.rest())[:1] in {b"", b"\x15"}
        await reached(lambda: not shop.listener._adopting, "the end of all handshakes")
        assert shop.listener.admission.taken == 0
        machine = await connect(shop, client(certificates))
        await machine.close()


async def test_handshakes_that_fail_leave_nothing_for_the_collector(certificates: Plant) -> None:
    """It knows nothing of the 48 KiB that the library holds for each, and lets them pile up."""
    gc.collect()
    gc.disable()
    try:
        async with floor(settings(certificates, handshake_timeout_s=1.0)) as shop:
            for word in (b"GET / HTTP/1.1\r\n\r\n", b"\x16"):
                stranger = await say(shop, word)
                await stranger.rest()
            gone = await say(shop, b"\x16")
            gone.reset()
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await first_word(shop, client(certificates, "stranger"))
            machine = await connect(shop, client(certificates))
            await machine.close()
            await reached(lambda: not any(type(each) is Encrypted for each in gc.get_objects()), "their end")
    finally:
        gc.enable()


async def test_failed_handshakes_are_told_of_without_a_flood(certificates: Plant) -> None:
    """The first at once, with what was wrong; then how many there were since, ten seconds later."""
    with structlog.testing.capture_logs() as lines:
        async with floor(settings(certificates)) as shop:
            for _ in range(4):
                stranger = await say(shop, b"GET / HTTP/1.1\r\n\r\n")
                await stranger.rest()
            await reached(lambda: refused(shop, "tls_failed") == 4, "the refusals")
            shop.listener.admission._refusals._now = lambda: asyncio.get_running_loop().time() + 10
            shop.listener.admission.sweep()
    told = [(line["reason"], line["detail"], line["times"]) for line in lines if "detail" in line]
    assert told == [("tls_failed", "HTTP_REQUEST", 1), ("tls_failed", "HTTP_REQUEST", 3)]


def hello(claimed: int, *, record: int = 512) -> bytes:
    """The beginning of a hello that says that it will be so long."""
    return b"\x16\x03\x01" + record.to_bytes(2) + b"\x01" + claimed.to_bytes(3) + b"\x03\x03" + bytes(32)


@pytest.mark.parametrize("data", [hello(131_000), hello(508, record=3)], ids=["long", "in pieces"])
async def test_a_hello_that_claims_too_much_is_refused_at_once(certificates: Plant, data: bytes) -> None:
    """Before the library sets memory aside for it, however its bytes come."""
    async with floor(settings(certificates)) as shop:
        for pieces in ([data], [data[place : place + 1] for place in range(len(data))]):
            stranger = await say(shop, b"")
            with suppress(ConnectionError):
                for piece in pieces:
                    await stranger.send(piece)
                    await asyncio.sleep(0)
            assert (await stranger.rest())[:1] in {b"", b"\x15"}
        await reached(lambda: refused(shop, "tls_failed") == 2, "the refusals")
        assert not shop.listener._adopting


async def test_keys_are_exchanged_in_a_way_that_costs_us_little(certificates: Plant) -> None:
    """A group that takes a hundred times as long is not agreed to; whoever knows P-256 too is let in."""
    async with floor(settings(certificates)) as shop:
        dear = client(certificates)
        dear.set_ecdh_curve("ffdhe8192")
        dear.minimum_version = ssl.TLSVersion.TLSv1_3
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await first_word(shop, dear)
        await reached(lambda: refused(shop, "tls_failed") == 1, "the refusal")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            usual = client(certificates)
            usual.minimum_version = usual.maximum_version = version
            machine = await connect(shop, usual)
            await machine.close()


async def test_only_so_many_handshakes_are_under_way(
    certificates: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are refused meanwhile, and let in when there is room again."""
    monkeypatch.setattr(admission, "_MOST_HANDSHAKES", 2)
    async with floor(settings(certificates, handshake_timeout_s=1.0)) as shop:
        stalled = [await say(shop, hello(508)) for _ in range(2)]
        await reached(lambda: len(shop.listener._adopting) == 2, "the stalled ones")
        late = await say(shop, b"")
        assert await late.rest() == b""
        assert refused(shop, "too_many_handshakes") == 1
        for stranger in stalled:
            await stranger.rest()
        await reached(lambda: not shop.listener._adopting, "their end")
        machine = await connect(shop, client(certificates))
        await machine.close()


async def test_an_address_that_stalls_its_handshakes_keeps_out_no_other(
    certificates: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its share of them; who has shaken hands takes none of it, however long it stays."""
    monkeypatch.setattr(admission, "_MOST_HANDSHAKES_OF_ADDRESS", 2)
    async with floor(settings(certificates)) as shop:
        first, second = [await connect(shop, client(certificates)) for _ in range(2)]
        await reached(lambda: not shop.listener._adopting, "the end of their handshakes")
        stalled = [await say(shop, hello(508)) for _ in range(2)]
        await reached(lambda: len(shop.listener._adopting) == 2, "the stalled ones")
        late = await say(shop, b"")
        assert await late.rest() == b""
        assert refused(shop, "too_many_handshakes") == 1
        _, other = await asyncio.open_connection(
            "127.0.0.1",
            shop.listener.ports[0],
            ssl=client(certificates),
            server_hostname="localhost",
            local_addr=("127.0.0.2", 0),
        )
        await reached(lambda: len(shop.opened) == 3, "a machine of another address")
        for writer in (other, first.writer, second.writer, *(stranger.writer for stranger in stalled)):
            writer.close()


async def test_a_plant_behind_one_address_comes_in_though_not_all_at_once(
    certificates: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is refused once at least, but those whose handshakes are under way then; who tries again is in."""
    monkeypatch.setattr(admission, "_MOST_HANDSHAKES_OF_ADDRESS", 4)
    context, waiting = client(certificates), list[Callable[[], None]]()

    async def deliver() -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection(
                    "127.0.0.1", shop.listener.ports[0], ssl=context, server_hostname="localhost"
                )
            except OSError:  # refused
                await asyncio.sleep(0.01)
            else:
                writer.write(RECORD)
                writer.close()
                await writer.wait_closed()
                return

    async with floor(settings(certificates)) as shop:
        with monkeypatch.context() as patched:
            patched.setattr(shop.listener._turns, "ask", lambda step, _: waiting.append(step))
            plant = asyncio.gather(*(deliver() for _ in range(60)))
            await reached(lambda: len(waiting) == 4, "four hellos")
            await reached(lambda: refused(shop, "too_many_handshakes") >= 56, "the refusals")
        for step in waiting:
            step()
        await plant
        await reached(lambda: shop.records == 60, "a record of each")
