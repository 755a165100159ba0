"""TLS on real sockets: who is let in, who is not and why, and that all else is as without it."""

import _ssl
import asyncio
import ctypes
import os
import random
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog

from headrace.authority import make_authority, make_device, make_server
from ingest.encrypted import Encrypted
from ingest.errors import CertificateError, HandshakeError
from ingest.settings import IngestSettings
from ingest.tls import Certificates, Failures, identity_of
from parser.block import Allowance
from parser.framing import Ending
from parser.parsed import ParsedBlock
from parser.verdicts import Reason
from tests.ingest.building import DEADLINE_S
from tests.ingest.floor import RECORD, Floor, Machine, floor, reached
from tests.support.certificates import Certificates as Plant


@pytest.fixture(autouse=True)
async def _nothing_unexpected() -> AsyncIterator[None]:
    """Whatever strangers do, nothing gets as far as the loop's exception handler."""
    unexpected: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unexpected.append(context))
    yield
    assert not unexpected


def settings(plant: Plant, **changed: Any) -> IngestSettings:
    """Mutual TLS on free ports."""
    usual: dict[str, Any] = {
        "port": 0,
        "ack_port": 0,
        "tick_ms": 1,
        "tls_cert": str(plant.server.certificate),
        "tls_key": str(plant.server.key),
        "tls_client_ca": str(plant.ca),
    }
    return IngestSettings(**(usual | changed))


def client(plant: Plant, name: str | None = "E0001") -> ssl.SSLContext:
    """A machine that trusts the plant, with its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(plant.ca)
    if name is not None:
        pair = plant.stranger if name == "stranger" else plant.devices[name]
        context.load_cert_chain(pair.certificate, pair.key)
    return context


async def connect(shop: Floor, context: ssl.SSLContext, *, acknowledged: bool = False) -> Machine:
    """A machine that has been admitted."""
    before = len(shop.opened)
    port = shop.listener.ports[acknowledged]
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )
    await reached(lambda: len(shop.opened) > before, "the opening")
    return Machine(reader, writer, shop.opened[before].connection)


def refused(shop: Floor, why: str) -> int:
    """How many were refused for this reason."""
    return int(shop.metrics.refused.labels(why)._value.get())


def raw(machine: Machine) -> socket.socket:
    """The socket below its TLS; closing it leaves the connection open."""
    return socket.socket(fileno=os.dup(machine.writer.get_extra_info("socket").fileno()))


async def say(shop: Floor, data: bytes) -> Machine:
    """A stranger that speaks no TLS, or something like it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", shop.listener.ports[0])
    writer.write(data)
    return Machine(reader, writer, 0)


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


async def test_without_an_authority_for_machines_nobody_has_an_identity(certificates: Plant) -> None:
    async with floor(settings(certificates, tls_client_ca=None)) as shop:
        machine = await connect(shop, client(certificates, None))
        await machine.send(RECORD)
        await reached(lambda: shop.records == 1, "the record")
        assert shop.opened[0].identity is None
        await machine.close()


async def test_too_many_of_an_identity_are_closed_with_that_reason(certificates: Plant) -> None:
    """They are seen in the table, as who they proved to be was known only after they were let in."""
    async with floor(settings(certificates, max_connections_per_identity=1)) as shop:
        first = await connect(shop, client(certificates))
        second = await connect(shop, client(certificates))
        third = await connect(shop, client(certificates), acknowledged=True)
        await reached(lambda: len(shop.closed) == 2, "the closings")
        for machine in (second, third):
            machine.writer.close()
        assert [event.why for event in shop.closed] == ["too_many_of_identity"] * 2
        other = await connect(shop, client(certificates, "E0002"))
        for machine in (first, other):
            await machine.send(RECORD)
        await reached(lambda: shop.records == 2, "a record of each")
        for machine in (first, other):
            await machine.close()


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
        assert shop.closed[0].why == "reset"
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
        assert (shop.closed[0].why, shop.records) == (("closed", 1) if data else ("reset", 0))


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


async def first_word(shop: Floor, context: ssl.SSLContext) -> bytes:
    """What a client hears; in TLS 1.3 one that is refused hears of it only after its handshake."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", shop.listener.ports[0], ssl=context, server_hostname="localhost"
    )
    try:
        return await asyncio.wait_for(reader.read(), DEADLINE_S)
    finally:
        writer.close()


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


async def test_a_stalled_handshake_is_closed_at_its_deadline(certificates: Plant) -> None:
    """Silent from the start or in the middle; until then it counts as a connection."""
    limits = {"handshake_timeout_s": 0.3, "max_connections": 2}
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
        assert await machine.acknowledged() == 2
        shop.listener.hang_up()
        assert await machine.rest() == b""
        assert await stuck.rest() == b""
        await reached(lambda: not shop.listener._adopting, "the end of all handshakes")


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
    """What came before it is stored."""
    async with floor(settings(certificates)) as shop:
        machine = await connect(shop, client(certificates))
        await machine.send(RECORD)
        await reached(lambda: shop.records == 1, "the record")
        with raw(machine) as sock:
            sock.send(b"\x17\x03\x03\0\x20" + bytes(32))
        await reached(lambda: shop.closed, "the closing")
        assert shop.closed[0].why == "reset"
        assert await machine.rest() == b""


async def test_what_a_client_does_not_listen_to_does_not_pile_up(certificates: Plant) -> None:
    """Whatever TLS wants to say: beyond 64 KiB that the socket doesn't take it is cut off."""
    async with floor(settings(certificates)) as shop:
        machine = await connect(shop, client(certificates))
        machine.writer.transport.pause_reading()  # type: ignore[attr-defined]
        transport = next(iter(shop.listener.connections))._transport
        assert isinstance(transport, Encrypted)
        for _ in range(4_000):
            transport.write(bytes(16_384))
            assert transport._raw.get_write_buffer_size() < 100_000
        assert transport.is_closing()
        await reached(lambda: shop.closed, "the closing")
        machine.writer.transport.abort()


async def test_certificates_are_renewed_while_machines_send(certificates: Plant, tmp_path: Path) -> None:
    """New connections get the new one, the others stay; what can't be used changes nothing."""
    cert, key = tmp_path / "server.pem", tmp_path / "server.key"
    shutil.copy(certificates.server.certificate, cert)
    shutil.copy(certificates.server.key, key)
    async with floor(settings(certificates, tls_cert=str(cert), tls_key=str(key))) as shop:
        assert shop.listener.certificates is not None
        machine = await connect(shop, client(certificates))
        shutil.copy(certificates.stranger_server.key, key)
        with pytest.raises(CertificateError, match="fits the certificate"):
            shop.listener.certificates.renew()
        other = await connect(shop, client(certificates))
        shutil.copy(certificates.stranger_server.certificate, cert)
        shop.listener.certificates.renew()
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(shop, client(certificates))
        for each in (machine, other):
            await each.send(RECORD)
        await reached(lambda: shop.records == 2, "the records")
        assert not shop.closed
        for each in (machine, other):
            await each.close()


async def test_a_server_that_can_not_prove_itself_does_not_start(certificates: Plant) -> None:
    wrong = settings(certificates, tls_key=str(certificates.stranger.key))
    with pytest.raises(CertificateError, match=r"\[ingest\] tls_key: .* fits the certificate"):
        async with floor(wrong):
            pass


@pytest.mark.parametrize(
    ("key", "content", "said"),
    [
        ("tls_cert", None, "No such file"),
        ("tls_key", None, "No such file"),
        ("tls_client_ca", None, "No such file"),
        ("tls_cert", "nonsense", "no certificate in PEM"),
        ("tls_key", "nonsense", "no key without a password"),
        ("tls_client_ca", "nonsense", "no certificate in PEM"),
        ("tls_client_ca", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "in PEM"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    certificates: Plant, tmp_path: Path, key: str, content: str | None, said: str
) -> None:
    """With the key, the file, and what would be right."""
    path = tmp_path / "file"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CertificateError) as error:
        Certificates(settings(certificates, **{key: str(path)}))
    assert str(error.value).startswith(f"[ingest] {key}: {path}")
    assert said in str(error.value)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(certificates: Plant, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    key = load_pem_private_key(certificates.server.key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    with pytest.raises(CertificateError, match="without a password"):
        Certificates(settings(certificates, tls_key=str(locked)))


def test_what_is_not_valid_today_is_refused(certificates: Plant) -> None:
    old = make_server(certificates.folder, ["old.example"], days=0)
    with pytest.raises(CertificateError, match=r"tls_cert: .*old\.example\.pem is valid from .*, not today"):
        Certificates(settings(certificates, tls_cert=str(old.certificate), tls_key=str(old.key)))


def test_an_old_authority_may_end_beside_the_new_one(certificates: Plant, tmp_path: Path) -> None:
    """Only where none is left nobody could connect, and that is said."""
    old = make_authority(tmp_path / "old", "Old", days=0).certificate
    with pytest.raises(CertificateError, match=r"tls_client_ca: .* not today"):
        Certificates(settings(certificates, tls_client_ca=str(old)))
    both = tmp_path / "both.pem"
    both.write_bytes(old.read_bytes() + certificates.ca.read_bytes())
    assert Certificates(settings(certificates, tls_client_ca=str(both))).until


async def test_a_machine_whose_certificate_has_ended_is_refused(certificates: Plant) -> None:
    old = make_device(certificates.folder, "E0099", days=0)
    context = client(certificates, None)
    context.load_cert_chain(old.certificate, old.key)
    async with floor(settings(certificates)) as shop:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await first_word(shop, context)
        await reached(lambda: refused(shop, "tls_failed") == 1, "the refusal")


def test_failed_handshakes_are_told_of_once_a_minute() -> None:
    """The first at once; then how many there were since, and the last one's peer and reason."""
    now = [100.0]
    failures = Failures(lambda: now[0])
    with structlog.testing.capture_logs() as lines:
        for second in (0, 1, 2, 59, 60):
            now[0] = 100.0 + second
            failures.add(f"10.0.0.{second}:1", "HTTP_REQUEST")
    assert [(line["count"], line["peer"]) for line in lines] == [(1, "10.0.0.0:1"), (4, "10.0.0.60:1")]


@pytest.mark.parametrize(
    ("certificate", "identity"),
    [
        ({"subjectAltName": (("URI", "urn:x"), ("DNS", "E1"), ("DNS", "E2"))}, "E1"),
        ({"subjectAltName": (("IP Address", "10.0.0.1"), ("URI", "urn:x")), "subject": ()}, "urn:x"),
        ({"subject": ((("organizationName", "Plant"),), (("commonName", "press 7"),))}, "press 7"),
        ({"subject": ((("commonName", "Fräse"),),)}, "Fräse"),
    ],
)
def test_the_identity_is_the_first_name_of_the_best_kind(certificate: dict[str, Any], identity: str) -> None:
    assert identity_of(certificate) == identity


@pytest.mark.parametrize("name", ["", "a\nb", "a\x1b[m", "a\u202eb", "a\0b", "x" * 256])
def test_a_name_that_can_not_be_shown_is_no_identity(name: str) -> None:
    with pytest.raises(HandshakeError, match="no name that can be used"):
        identity_of({"subject": ((("commonName", name),),)})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tls_key": None}, "tls_key: is needed beside tls_cert"),
        ({"tls_cert": None}, "tls_cert: is needed beside tls_key"),
        ({"tls_cert": None, "tls_key": None}, "tls_client_ca: needs tls_cert and tls_key"),
        ({"tls_client_ca": None, "bind_identity": True}, "bind_identity: needs tls_client_ca"),
        ({"identities": {"a": ("E1",)}}, "identities: needs bind_identity"),
        ({"bind_identity": True, "identities": {"a": ("",)}}, "identities: '' is no device"),
    ],
)
def test_half_a_tls_is_refused(certificates: Plant, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings(certificates, **changed)


async def test_blocks_say_who_may_send_what(certificates: Plant) -> None:
    """With `bind_identity`: each its own device, and those in its list."""
    bound = settings(certificates, bind_identity=True, identities={"gateway-1": ("E0002", "E0003")})
    async with floor(bound) as shop:
        machine = await connect(shop, client(certificates))
        gateway = await connect(shop, client(certificates, "gateway-1"))
        await machine.send(RECORD + RECORD.replace(b"E0001", b"E0002"))
        await gateway.send(RECORD + RECORD.replace(b"E0001", b"E0002"))
        await reached(lambda: shop.records == 4, "the records")
        fates = [ParsedBlock.of(block) for block in shop.blocks if block.payload]
        assert {each for block in shop.blocks for each in block.allowed or ()} == {
            Allowance((machine.number,), ("E0001",)),
            Allowance((gateway.number,), ("gateway-1", "E0002", "E0003")),
        }
        rejects = [reject.verdict for parsed in fates for reject in parsed.columns.rejects]
        assert [(r.reason, r.device_id) for r in rejects] == [
            (Reason.WRONG_IDENTITY, "E0002"),
            (Reason.WRONG_IDENTITY, "E0001"),
        ]
        await machine.close()
        await gateway.close()


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


async def test_an_identity_has_its_own_bound(certificates: Plant) -> None:
    """Beyond it a connection is closed, in the table and with its reason; others are not concerned."""
    async with floor(settings(certificates, max_connections_per_identity=1)) as shop:
        machine = await connect(shop, client(certificates))
        second = await connect(shop, client(certificates), acknowledged=True)
        await reached(lambda: shop.closed, "the closing")
        assert (shop.closed[0].connection, shop.closed[0].why) == (second.number, "too_many_of_identity")
        assert await second.rest() == b""
        other = await connect(shop, client(certificates, "E0002"))
        for each in (machine, other):
            await each.send(RECORD)
        await reached(lambda: shop.records == 2, "the records")
        await machine.close()
        await reached(lambda: len(shop.closed) == 2, "the end")
        again = await connect(shop, client(certificates))
        for each in (again, other):
            await each.close()


async def test_a_share_is_kept_over_tls_too(certificates: Plant) -> None:
    """Reading pauses; nothing is dropped, and the last acknowledgement comes."""
    async with floor(settings(certificates, max_records_per_s=400.0)) as shop:
        heard = await asyncio.to_thread(
            half_close, shop.listener.ports[1], client(certificates), RECORD * 1_000
        )
        assert heard.endswith(b"ACK,1000#")
        assert shop.records == 1_000


async def test_handshakes_that_fail_leave_their_places(certificates: Plant) -> None:
    """Also those that are too late: who belongs here finds room."""
    limits = {"handshake_timeout_s": 0.2, "max_connections": 2, "max_connections_per_address": 2}
    async with floor(settings(certificates, **limits)) as shop:
        for word in (b"GET / HTTP/1.1\r\n\r\n", b"", b"\x16", RECORD):
            stranger = await say(shop, word)
            assert (await stranger.rest())[:1] in {b"", b"\x15"}
        await reached(lambda: not shop.listener._adopting, "the end of all handshakes")
        assert shop.listener.admission.taken == 0
        machine = await connect(shop, client(certificates))
        await machine.close()


async def test_a_list_is_said_once_for_all_connections_of_an_identity(certificates: Plant) -> None:
    """So what a block carries of lists is bounded by the configuration, not by who connects how often."""
    bound = settings(certificates, bind_identity=True, identities={"gateway-1": ("E0002",)})
    async with floor(bound) as shop:
        machines = [await connect(shop, client(certificates, "gateway-1")) for _ in range(3)]
        shop.listener.assembler._timer = asyncio.get_running_loop().call_later(DEADLINE_S, print)  # no tick
        for machine in machines:
            await machine.send(RECORD.replace(b"E0001", b"E0002"))
        await reached(lambda: len(shop.listener.assembler.arrivals.pieces) == 3, "the records")
        shop.listener.assembler.tick()
        [allowance] = shop.blocks[-1].allowed or ()
        assert set(allowance.connections) == {machine.number for machine in machines}
        assert allowance.devices == ("gateway-1", "E0002")
        for machine in machines:
            await machine.close()
