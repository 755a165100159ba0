"""Streams over TLS on real sockets: all is as without it, and what breaks one breaks no other."""

import _ssl
import asyncio
import ctypes
import os
import random
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ingest.encrypted import Encrypted
from parser.framing import Ending
from tests.ingest.building import DEADLINE_S
from tests.ingest.floor import RECORD, Machine, floor, reached
from tests.ingest.handmade import DATA, HALF_A_KEY_UPDATE, HANDSHAKE, HandMade
from tests.ingest.tls import client, connect, settings
from tests.support.certificates import Certificates as Plant

pytestmark = pytest.mark.usefixtures("nothing_unexpected")


def raw(machine: Machine) -> socket.socket:
    """The socket below its TLS; closing it leaves the connection open."""
    return socket.socket(fileno=os.dup(machine.writer.get_extra_info("socket").fileno()))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_what_was_sent_is_what_is_in_the_blocks(certificates: Plant, version: ssl.TLSVersion) -> None:
    """In whatever pieces, and the identity of the certificate with it."""
    picked = random.Random(7)  # noqa: S311
    context = client(certificates)
    context.minimum_version = context.maximum_version = version
    sent = b"".join(b"E0001,%d,1,1,1,1#" % n for n in range(20_000))
    async with floor(settings(certificates)) as shop:
        machine = await connect(shop, context)
        assert machine.writer.get_extra_info("ssl_object").version() == version.name.replace("v1_", "v1.")
        left = sent
        while left:
            size = picked.choice([1, 17, 500, 20_000, 70_000])
            await machine.send(left[:size])
            left = left[size:]
        await machine.close()
        await reached(lambda: shop.closed, "the closing")
        assert shop.stream(machine.number) == sent
        assert shop.closed[0].why == "closed"
        assert shop.opened[0].identity == "E0001"


async def test_a_clean_close_is_one_that_tls_says(certificates: Plant) -> None:
    """A tail behind it is a record; the end of the socket alone could be anybody's doing, and is a reset."""
    async with floor(settings(certificates)) as shop:
        clean = await connect(shop, client(certificates))
        await clean.send(RECORD + RECORD[:-1])
        await clean.close()
        await reached(lambda: shop.closed, "the closing")
        assert (shop.closed[0].why, shop.endings[-1]) == ("closed", Ending.CLEAN)
        cut = await connect(shop, client(certificates))
        await cut.send(RECORD + b"E0001,35")
        await reached(lambda: shop.records == 3, "the whole record")
        with raw(cut) as sock:
            sock.shutdown(socket.SHUT_WR)
        await reached(lambda: len(shop.closed) == 2, "the closing")
        assert (shop.closed[1].why, shop.endings[-1]) == ("reset", Ending.RESET)
        assert shop.stream(cut.number) == RECORD + b"E0001,35#"
        cut.writer.close()


async def test_a_reset_is_one(certificates: Plant) -> None:
    async with floor(settings(certificates)) as shop:
        machine = await connect(shop, client(certificates))
        await machine.send(RECORD + b"E0001,35")
        await reached(lambda: shop.records == 1, "the whole record")
        machine.reset()
        await reached(lambda: shop.closed, "the closing")
        assert (shop.closed[0].why, shop.endings[-1]) == ("reset", Ending.RESET)


async def test_acknowledgements_come_over_tls(certificates: Plant) -> None:
    async with floor(settings(certificates)) as shop:
        machine = await connect(shop, client(certificates), acknowledged=True)
        for number in (1, 2, 3):
            await machine.send(RECORD)
            assert await machine.acknowledged() == number
        await machine.close()


def shake(tls: ssl.SSLObject, sock: socket.socket, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
    """Do the handshake; what the client says last is still to be sent."""
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read())
            incoming.write(sock.recv(65_536))


def half_close(port: int, context: ssl.SSLContext, data: bytes) -> bytes:
    """Send, say by TLS that this was all, end our half of the socket, and read what still comes."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock:
        shake(tls, sock, incoming, outgoing)
        tls.write(data)
        with suppress(ssl.SSLWantReadError):
            tls.unwrap()
        sock.sendall(outgoing.read())
        sock.shutdown(socket.SHUT_WR)
        while received := sock.recv(65_536):
            incoming.write(received)
    heard = bytearray()
    with suppress(ssl.SSLZeroReturnError):  # it has said that it closes
        while True:
            heard += tls.read()
    return bytes(heard)


async def test_the_last_acknowledgement_comes_after_a_half_close(certificates: Plant) -> None:
    """Said by TLS and by the socket; what is committed meanwhile is told, then the server closes."""
    async with floor(settings(certificates)) as shop:
        shop.commits = False
        ending = asyncio.create_task(
            asyncio.to_thread(half_close, shop.listener.ports[1], client(certificates), RECORD * 3)
        )
        await reached(lambda: shop.closed, "the end of the stream")
        assert len(shop.listener.connections) == 1
        shop.commit()
        assert await ending == b"ACK,3#"
        await reached(lambda: not shop.listener.connections, "the end")
        assert shop.closed[0].why == "closed"


async def test_a_stream_that_broke_holds_up_nobody(certificates: Plant) -> None:
    """TLS can say nothing there any more, while the loop has not told of the end yet: others are told."""
    async with floor(settings(certificates)) as shop:
        shop.commits = False
        broken = await connect(shop, client(certificates), acknowledged=True)
        sound = await connect(shop, client(certificates), acknowledged=True)
        for machine in (broken, sound):
            await machine.send(RECORD)
        await reached(lambda: shop.records == 2, "the records")
        [transport] = [c._transport for c in shop.listener.connections if c.id == broken.number]
        assert isinstance(transport, Encrypted)
        transport.data_received(b"\x17\x03\x03\x00\x20" + bytes(32))
        shop.commits = True
        shop.commit()
        assert await sound.acknowledged() == 1
        await reached(lambda: shop.closed, "the closing")
        assert shop.closed[0].why == "tls_broken"
        await sound.close()
        broken.writer.close()


def key_updates(port: int, context: ssl.SSLContext, count: int, data: bytes) -> None:
    """Ask so often for new keys, then send and close, if anything; until the server has closed."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    native = ctypes.c_void_p.from_address(id(tls._sslobj) + object.__basicsize__ + 8)  # type: ignore[attr-defined]
    library = ctypes.CDLL(_ssl.__file__)
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock:
        shake(tls, sock, incoming, outgoing)
        for _ in range(count):
            assert library.SSL_key_update(native, 1) == 1
            assert library.SSL_do_handshake(native) == 1
        if data:
            tls.write(data)
            with suppress(ssl.SSLWantReadError):
                tls.unwrap()
        with suppress(ConnectionError):
            sock.sendall(outgoing.read())
            while sock.recv(65_536):
                pass


@pytest.mark.parametrize(("count", "data"), [(100, RECORD), (2_000, b"")])
async def test_who_only_changes_keys_is_cut_off(certificates: Plant, count: int, data: bytes) -> None:
    """Some may; what costs the server more than the client, and brings nothing, ends soon."""
    async with floor(settings(certificates)) as shop:
        port = shop.listener.ports[0]
        await asyncio.to_thread(key_updates, port, client(certificates), count, data)
        await reached(lambda: shop.closed, "the closing")
        assert (shop.closed[0].why, shop.records) == (("closed", 1) if data else ("tls_cut_off", 0))


async def test_who_stops_in_a_message_of_tls_keeps_nobody_waiting(
    certificates: Plant, tmp_path: Path
) -> None:
    """Within one nothing can be said to it, so it is cut off; its neighbours in the block are told."""
    async with floor(settings(certificates)) as shop:
        port = shop.listener.ports[1]
        odd = await asyncio.to_thread(HandMade, port, client(certificates), tmp_path)
        good = await connect(shop, client(certificates), acknowledged=True)
        shop.commits = False
        with odd.sock:
            odd.sock.sendall(odd.record(DATA, RECORD) + odd.record(HANDSHAKE, HALF_A_KEY_UPDATE))
            await good.send(RECORD)
            await reached(lambda: shop.records == 2, "the records")
            shop.commits = True
            shop.commit()
            assert await good.acknowledged() == 1
            await reached(lambda: shop.closed, "the closing")
            assert (shop.closed[0].connection, shop.closed[0].why) == (
                shop.opened[0].connection,
                "tls_broken",
            )
            await good.close()


async def test_a_silent_machine_is_closed(certificates: Plant) -> None:
    async with floor(settings(certificates, idle_timeout_s=0.5)) as shop:
        machine = await connect(shop, client(certificates))
        await machine.send(b"E0001,35")
        assert await machine.rest() == b""
        await reached(lambda: shop.closed, "the closing")
        assert (shop.closed[0].why, shop.endings[-1]) == ("idle_timeout", Ending.TIMEOUT)


async def test_a_closed_gate_stops_all_reading(certificates: Plant) -> None:
    """Also of what came together with the end of the handshake."""
    async with floor(settings(certificates)) as shop:
        early = await connect(shop, client(certificates))
        shop.listener.gate.close("test")
        late = await connect(shop, client(certificates))
        at_once = asyncio.create_task(
            asyncio.to_thread(half_close, shop.listener.ports[1], client(certificates), RECORD * 100)
        )
        await reached(lambda: len(shop.opened) == 3, "the third")
        early.writer.write(RECORD * 100)
        late.writer.write(RECORD * 100)
        for _ in range(50):
            await asyncio.sleep(0.002)
            assert shop.records == 0
        shop.listener.gate.open("test")
        await reached(lambda: shop.records == 300, "all records")
        assert (await at_once).endswith(b"ACK,100#")
        await early.close()
        await late.close()


async def test_a_broken_record_of_tls_ends_the_connection(certificates: Plant) -> None:
    """What came before it is stored, and the closing says that it was TLS which broke, not the network."""
    async with floor(settings(certificates)) as shop:
        machine = await connect(shop, client(certificates))
        await machine.send(RECORD + b"E0001,35")
        await reached(lambda: shop.records == 1, "the record")
        with raw(machine) as sock:
            sock.send(b"\x17\x03\x03\0\x20" + bytes(32))
        await reached(lambda: shop.closed, "the closing")
        assert (shop.closed[0].why, shop.endings[-1]) == ("tls_broken", Ending.RESET)
        assert shop.stream(machine.number) == RECORD + b"E0001,35#"
        assert await machine.rest() == b""


def send_changed(port: int, context: ssl.SSLContext) -> None:
    """Send a record in which somebody on the way has changed a bit, until the server has closed."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock:
        shake(tls, sock, incoming, outgoing)
        sock.sendall(outgoing.read())
        tls.write(RECORD)
        sent = bytearray(outgoing.read())
        sent[-1] ^= 1
        with suppress(ConnectionError):
            sock.sendall(sent)
            while sock.recv(65_536):
                pass


def hear_changed(port: int, context: ssl.SSLContext) -> None:
    """Find a bit changed in an acknowledgement, and say so by an alert, until the server has closed."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock:
        shake(tls, sock, incoming, outgoing)
        tls.write(RECORD)
        sock.sendall(outgoing.read())
        heard = bytearray(sock.recv(65_536))
        heard[-1] ^= 1
        incoming.write(heard)
        with pytest.raises(ssl.SSLError, match="MAC"):
            tls.read()
        with suppress(ConnectionError):
            sock.sendall(outgoing.read())
            while sock.recv(65_536):
                pass


@pytest.mark.parametrize(("changed", "records"), [(send_changed, 0), (hear_changed, 1)])
async def test_a_bit_that_was_changed_on_the_way_breaks_the_stream(
    certificates: Plant, changed: Callable[[int, ssl.SSLContext], None], records: int
) -> None:
    """Whichever side finds it: nothing changed is stored, and the closing says what broke."""
    async with floor(settings(certificates)) as shop:
        await asyncio.to_thread(changed, shop.listener.ports[1], client(certificates))
        await reached(lambda: shop.closed, "the closing")
        assert (shop.closed[0].why, shop.records) == ("tls_broken", records)
        assert shop.metrics.closed.labels("tls_broken")._value.get() == 1


async def test_what_a_client_does_not_listen_to_does_not_pile_up(certificates: Plant) -> None:
    """Whatever TLS wants to say: beyond 64 KiB that the socket doesn't take it is cut off."""
    async with floor(settings(certificates)) as shop:
        machine = await connect(shop, client(certificates))
        await machine.send(b"E0001,35")
        await reached(lambda: [each.bytes for each in shop.listener.connections] == [8], "the bytes")
        machine.writer.transport.pause_reading()  # type: ignore[attr-defined]
        transport = next(iter(shop.listener.connections))._transport
        assert isinstance(transport, Encrypted)
        for _ in range(4_000):
            transport.write(bytes(16_384))
            assert transport._raw.get_write_buffer_size() < 100_000
        assert transport.is_closing()
        await reached(lambda: shop.closed, "the closing")
        assert (shop.closed[0].why, shop.endings[-1]) == ("tls_cut_off", Ending.RESET)
        machine.writer.transport.abort()


async def test_the_example_of_the_page_sends_what_it_should(certificates: Plant) -> None:
    """The one over TLS in docs/wire-format.md: it hears that all is durable, and ends cleanly."""
    page = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text("utf-8")
    code = page.split("### Python, over TLS")[1].split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102  # our own page
    mine = certificates.devices["E0001"]
    files = (str(certificates.ca), str(mine.certificate), str(mine.key))
    async with floor(settings(certificates)) as shop:
        records = [RECORD[:-1], b"bad", RECORD[:-1]]
        port = shop.listener.ports[1]
        assert await asyncio.to_thread(names["send_encrypted"], "localhost", port, records, *files) == 3
        await reached(lambda: shop.closed, "the closing")
        assert shop.closed[0].why == "closed"


async def test_a_share_is_kept_over_tls_too(certificates: Plant) -> None:
    """Reading pauses; nothing is dropped, and the last acknowledgement comes."""
    async with floor(settings(certificates, max_records_per_s=400.0)) as shop:
        heard = await asyncio.to_thread(
            half_close, shop.listener.ports[1], client(certificates), RECORD * 1_000
        )
        assert heard.endswith(b"ACK,1000#")
        assert shop.records == 1_000
