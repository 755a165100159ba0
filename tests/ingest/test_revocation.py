"""Revoked certificates: who has one is not let in, who is here with one is cut off, and all others go on."""

import asyncio
import re
import ssl
import time
from base64 import b64decode, b64encode
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from headrace.authority import make_authority, make_device, make_server, read_authority
from headrace.revoking import make_list, revoke
from ingest import revocation
from ingest.errors import CertificateError
from ingest.revocation import compared
from ingest.settings import IngestSettings
from ingest.tls import Certificates
from parser.settings import Rules
from tests.ingest.floor import RECORD, floor, reached
from tests.ingest.tls import client, connect, first_word, refused, settings
from tests.support.certificates import Certificates as Plant

DAY: Final = timedelta(days=1)


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """One whose list is its own."""
    folder = tmp_path / "plant"
    ca = make_authority(folder, "Plant", days=30)
    make_list(folder)
    return Plant(
        folder,
        ca.certificate,
        make_server(folder, ["localhost"], days=30),
        {name: make_device(folder, name, days=30) for name in ("E0001", "E0002")},
        make_device(folder, "E0003", days=30),
        make_server(folder, ["other"], days=30),
    )


def listing(plant: Plant, **changed: object) -> IngestSettings:
    """Mutual TLS with the plant's list."""
    return settings(plant, **{"tls_client_crl": str(plant.folder / "ca.crl"), **changed})


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_who_has_a_revoked_certificate_is_not_let_in(plant: Plant, version: ssl.TLSVersion) -> None:
    """Counted and told of like any other who proves nothing; the others are let in."""
    revoke(plant.folder, ["E0001"])
    with capture_logs() as lines:
        await _refuse(plant, version)
    assert [line["detail"] for line in lines if line["event"] == "connection_refused"] == [
        "certificate revoked"
    ]


async def _refuse(plant: Plant, version: ssl.TLSVersion) -> None:
    async with floor(listing(plant)) as shop:
        thief = client(plant, "E0001")
        thief.maximum_version = version
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await first_word(shop, thief)
        await reached(lambda: refused(shop, "tls_failed") == 1, "the refusal")
        machine = await connect(shop, client(plant, "E0002"))
        await machine.send(RECORD)
        await reached(lambda: shop.records == 1, "the record")
        await machine.close()


async def test_who_is_here_with_a_certificate_that_is_revoked_is_cut_off(plant: Plant) -> None:
    """With a reason of its own; what came before is kept, and the others notice nothing."""
    async with floor(listing(plant)) as shop:
        thief, other = (
            await connect(shop, client(plant, "E0001")),
            await connect(shop, client(plant, "E0002")),
        )
        await thief.send(RECORD)
        await reached(lambda: shop.records == 1, "the record")
        revoke(plant.folder, ["E0001"])
        assert shop.listener.certificates is not None
        await shop.listener.certificates.renew()
        shop.listener.change(listing(plant), Rules())
        await thief.rest()
        await reached(lambda: shop.closed, "the end")
        assert [(end.connection, end.why) for end in shop.closed] == [(thief.number, "revoked")]
        await other.send(RECORD)
        await reached(lambda: shop.records == 2, "the other's record")
        await other.close()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Plant", _ASN1Type.PrintableString),
        ("Plant", _ASN1Type.BMPString),
        (" pLANT  ", _ASN1Type.UTF8String),
    ],
)
async def test_a_list_may_write_its_authority_otherwise(plant: Plant, name: str, kind: _ASN1Type) -> None:
    """The library at handshakes knows it again, so who is here is cut off by it, too."""
    async with floor(listing(plant)) as shop:
        thief = await connect(shop, client(plant, "E0001"))
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name, _type=kind)])
        (plant.folder / "ca.crl").write_bytes(_naming(plant, issuer, "E0001"))
        assert shop.listener.certificates is not None
        await shop.listener.certificates.renew()
        shop.listener.change(listing(plant), Rules())
        await thief.rest()
        await reached(lambda: shop.closed, "the end")
        assert [end.why for end in shop.closed] == ["revoked"]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await first_word(shop, client(plant, "E0001"))
        await reached(lambda: refused(shop, "tls_failed") == 1, "the refusal")
        other = await connect(shop, client(plant, "E0002"))
        await other.close()


def _naming(plant: Plant, issuer: x509.Name, device: str) -> bytes:
    """A list of this plant under this name, with one machine on it."""
    now = datetime.now(UTC)
    number = x509.load_pem_x509_certificate(plant.devices[device].certificate.read_bytes()).serial_number
    entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now - DAY).build()
    builder = x509.CertificateRevocationListBuilder(
        issuer, now - DAY, now + DAY, revoked_certificates=[entry]
    )
    return builder.sign(read_authority(plant.folder).key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Plant", "Plant 2"), ("Plant A", "PlantA"), ("\N{LATIN CAPITAL LETTER A WITH DIAERESIS}", "A")],
)
def test_names_that_differ_are_of_different_authorities(one: str, other: str) -> None:
    assert (
        len({compared(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)])) for each in (one, other)})
        == 2
    )
    kinds = (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
    assert len({compared(x509.Name([x509.NameAttribute(kind, one)])) for kind in kinds}) == 2


async def test_who_is_at_the_door_when_a_certificate_is_revoked_does_not_get_in(plant: Plant) -> None:
    """A handshake goes on with the list that it began with; what comes of it is looked at once more."""
    async with floor(listing(plant)) as shop:
        assert shop.listener.certificates is not None
        thief = Slow(client(plant, "E0001"))
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.listener.ports[0])
        writer.write(thief.speak())
        while not thief.hear(await reader.read(4096)):
            writer.write(thief.speak())
        revoke(plant.folder, ["E0001"])
        await shop.listener.certificates.renew()
        shop.listener.change(listing(plant), Rules())
        writer.write(thief.speak())
        await reached(lambda: shop.closed, "the end")
        assert [end.why for end in shop.closed] == ["revoked"]
        assert shop.records == 0
        writer.close()


class Slow:
    """A client whose handshake goes on when it is told to."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self.hear(b"")

    def hear(self, data: bytes) -> bool:
        """Take what the server says; whether that was all for the handshake."""
        self._incoming.write(data)
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
            return True
        return False

    def speak(self) -> bytes:
        """What is to be sent now."""
        return self._outgoing.read()


def own_list(
    folder: Path, *extensions: x509.ExtensionType, first: timedelta = -DAY, last: timedelta = DAY
) -> bytes:
    """A list of this authority, valid from and to, from now."""
    authority = read_authority(folder)
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder(authority.certificate.subject, now + first, now + last)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def part_of(**what: bool) -> x509.IssuingDistributionPoint:
    """What a list is of."""
    usual: dict[str, Any] = dict.fromkeys(
        (
            "only_contains_user_certs",
            "only_contains_ca_certs",
            "indirect_crl",
            "only_contains_attribute_certs",
        ),
        False,
    )
    return x509.IssuingDistributionPoint(None, None, only_some_reasons=None, **(usual | what))


_DER: Final = re.compile(rb"(?<=-----\n)[A-Za-z0-9+/=\n]+(?=\n-----)")


def _of_a_later_version(found: re.Match[bytes]) -> bytes:
    """The same list as one of version 3, which there is not; RFC 5280, 5.1."""
    return b64encode(b64decode(found[0]).replace(b"\x02\x01\x01", b"\x02\x01\x02", 1))


def test_what_is_wrong_with_a_list_is_said(plant: Plant, tmp_path: Path) -> None:
    """Before anybody is kept out by it."""
    make_authority(tmp_path / "other", "Other", days=30)
    others = make_list(tmp_path / "other").path.read_bytes()
    make_authority(tmp_path / "same", "Plant", days=30)
    forged = make_list(tmp_path / "same").path.read_bytes()
    own = (plant.folder / "ca.crl").read_bytes()
    later = _DER.sub(_of_a_later_version, own)
    wrong = {
        b"nonsense": "holds no list",
        b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n": "can't be read",
        later: "holds a list that can't be read",
        others: "the list of CN=Other is signed by no authority",
        forged: "the list of CN=Plant is signed by no authority",
        own + others: "the list of CN=Other is signed by no authority",
        own_list(plant.folder, first=-2 * DAY, last=-DAY): "not today",
        own_list(plant.folder, first=DAY, last=2 * DAY): "not today",
        own_list(plant.folder, x509.DeltaCRLIndicator(1)): "of all its certificates (extension 2.5.29.27)",
        own_list(plant.folder, part_of(only_contains_ca_certs=True)): "is not of all its certificates",
        own_list(plant.folder, part_of(indirect_crl=True)): "is not of all its certificates",
        own + own[: len(own) // 2]: "holds something that can't be read",
        own + own: "one list twice",
        own + plant.server.certificate.read_bytes(): "holds something else than lists",
    }
    path = tmp_path / "list.pem"
    for content, said in wrong.items():
        path.write_bytes(content)
        with pytest.raises(CertificateError, match=r"^\[ingest\] tls_client_crl: .*list\.pem: ") as error:
            Certificates(listing(plant, tls_client_crl=str(path)))
        assert said in str(error.value), content
    path.unlink()
    with pytest.raises(CertificateError, match=r"list\.pem: No such file"):
        Certificates(listing(plant, tls_client_crl=str(path)))
    path.write_bytes(own_list(plant.folder, part_of(only_contains_user_certs=True)))
    Certificates(listing(plant, tls_client_crl=str(path)))


async def test_each_authority_has_its_list(plant: Plant, tmp_path: Path) -> None:
    """Also where two have one name; with both lists the machines of both are judged, each by its own."""
    folder = tmp_path / "other"
    other = make_authority(folder, "Plant", days=30)
    both, lists = tmp_path / "both.pem", tmp_path / "lists.pem"
    both.write_bytes(plant.ca.read_bytes() + other.certificate.read_bytes())
    lists.write_bytes((plant.folder / "ca.crl").read_bytes())
    listed = listing(plant, tls_client_ca=str(both), tls_client_crl=str(lists))
    with pytest.raises(CertificateError, match="has no list of CN=Plant, which is in tls_client_ca"):
        Certificates(listed)
    make_list(folder)
    theirs = {name: make_device(folder, name, days=30) for name in ("E0001", "E0002")}
    revoke(plant.folder, ["E0002"])
    revoke(folder, ["E0001"])
    lists.write_bytes((plant.folder / "ca.crl").read_bytes() + (folder / "ca.crl").read_bytes())
    async with floor(listed) as shop:
        for number, (devices, name) in enumerate(((plant.devices, "E0002"), (theirs, "E0001")), 1):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await first_word(shop, client(plant._replace(devices=devices), name))
            await reached(partial(lambda count: refused(shop, "tls_failed") == count, number), "the refusal")
        for devices, name in ((plant.devices, "E0001"), (theirs, "E0002")):
            machine = await connect(shop, client(plant._replace(devices=devices), name))
            await machine.close()


def test_an_authority_that_has_ended_needs_no_list(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may stand beside the new one, and its list, which ended with it, beside that one's."""
    folder = tmp_path / "old"
    other = make_authority(folder, "Old", days=3)
    both, lists = tmp_path / "both.pem", tmp_path / "lists.pem"
    both.write_bytes(plant.ca.read_bytes() + other.certificate.read_bytes())
    lists.write_bytes((plant.folder / "ca.crl").read_bytes() + make_list(folder).path.read_bytes())
    listed = listing(plant, tls_client_ca=str(both), tls_client_crl=str(lists))
    assert Certificates(listed).first_to_end == "tls_client_crl"
    monkeypatch.setattr(revocation, "datetime", Tomorrow)
    later = Certificates(listed)
    assert later.until - datetime.now(UTC) > 20 * DAY


class Tomorrow(datetime):
    """Five days later."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Tomorrow":
        """Now, as the code under test sees it."""
        return cls.fromtimestamp(time.time() + 5 * 86_400, tz)


def test_when_a_list_ends_is_known(plant: Plant) -> None:
    """By the figure that an alert looks at, as with its end all machines are kept out."""
    (plant.folder / "ca.crl").write_bytes(own_list(plant.folder, last=3 * DAY))
    found = Certificates(listing(plant))
    assert 2 * DAY < found.until - datetime.now(UTC) <= 3 * DAY
    assert found.first_to_end == "tls_client_crl"


async def test_with_the_end_of_its_list_nobody_is_let_in(plant: Plant) -> None:
    """Nobody says any more who is revoked; who is connected stays."""
    ending = own_list(plant.folder, last=timedelta(seconds=2))
    (plant.folder / "ca.crl").write_bytes(ending)
    async with floor(listing(plant)) as shop:
        machine = await connect(shop, client(plant, "E0001"))
        deadline = time.monotonic() + 20
        while not refused(shop, "tls_failed"):
            assert time.monotonic() < deadline
            with suppress(ssl.SSLError, ConnectionError, TimeoutError):
                await asyncio.wait_for(first_word(shop, client(plant, "E0002")), 0.5)
        await machine.send(RECORD)
        await reached(lambda: shop.records == 1, "the record")
        await machine.close()
