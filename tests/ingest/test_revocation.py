"""Revoked certificates: who has one is not let in, who is here with one is cut off, and all others go on."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from headrace.authority import make_authority, make_device, make_server, read_authority
from headrace.revoking import make_list, revoke
from ingest.errors import CertificateError
from ingest.settings import IngestSettings
from ingest.tls import Certificates
from parser.settings import Rules
from tests.ingest.floor import RECORD, floor, reached
from tests.ingest.tls import client, connect, first_word, refused, settings
from tests.support.certificates import Certificates as Plant


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
        shop.listener.certificates.renew()
        shop.listener.change(listing(plant), Rules())
        await thief.rest()
        await reached(lambda: shop.closed, "the end")
        assert [(end.connection, end.why) for end in shop.closed] == [(thief.number, "revoked")]
        await other.send(RECORD)
        await reached(lambda: shop.records == 2, "the other's record")
        await other.close()


def own_list(folder: Path, *, first: timedelta, last: timedelta) -> bytes:
    """A list of this authority, valid from and to, from now."""
    authority = read_authority(folder)
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder(authority.certificate.subject, now + first, now + last)
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_what_is_wrong_with_a_list_is_said(plant: Plant, tmp_path: Path) -> None:
    """Before anybody is kept out by it."""
    make_authority(tmp_path / "other", "Other", days=30)
    others = make_list(tmp_path / "other").path.read_bytes()
    make_authority(tmp_path / "same", "Plant", days=30)
    forged = make_list(tmp_path / "same").path.read_bytes()
    own = (plant.folder / "ca.crl").read_bytes()
    day = timedelta(days=1)
    wrong = {
        b"nonsense": "holds no list",
        b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n": "can't be read",
        others: "the list of CN=Other is signed by no authority",
        forged: "the list of CN=Plant is signed by no authority",
        own + others: "the list of CN=Other is signed by no authority",
        own_list(plant.folder, first=-2 * day, last=-day): "not today",
        own_list(plant.folder, first=day, last=2 * day): "not today",
    }
    path = tmp_path / "list.pem"
    for content, said in wrong.items():
        path.write_bytes(content)
        with pytest.raises(CertificateError, match=r"^\[ingest\] tls_client_crl: .*list\.pem: ") as error:
            Certificates(listing(plant, tls_client_crl=str(path)))
        assert said in str(error.value)
    path.unlink()
    with pytest.raises(CertificateError, match=r"list\.pem: No such file"):
        Certificates(listing(plant, tls_client_crl=str(path)))


def test_each_authority_has_its_list(plant: Plant, tmp_path: Path) -> None:
    """Else all machines of one would be kept out, as nobody says which are revoked."""
    other = make_authority(tmp_path / "other", "Other", days=30)
    both, lists = tmp_path / "both.pem", tmp_path / "lists.pem"
    both.write_bytes(plant.ca.read_bytes() + other.certificate.read_bytes())
    lists.write_bytes((plant.folder / "ca.crl").read_bytes())
    both_listed = listing(plant, tls_client_ca=str(both), tls_client_crl=str(lists))
    with pytest.raises(CertificateError, match="has no list of CN=Other, which is in tls_client_ca"):
        Certificates(both_listed)
    make_list(tmp_path / "other")
    make_device(tmp_path / "other", "E0001", days=30)
    revoke(tmp_path / "other", ["E0001"])
    lists.write_bytes(lists.read_bytes() + (tmp_path / "other" / "ca.crl").read_bytes())
    assert len(Certificates(both_listed).revoked) == 1


def test_when_a_list_ends_is_known(plant: Plant) -> None:
    """By the figure that an alert looks at, as with its end all machines are kept out."""
    path = plant.folder / "ca.crl"
    path.write_bytes(own_list(plant.folder, first=timedelta(0), last=timedelta(days=3)))
    ends = Certificates(listing(plant)).until - datetime.now(UTC)
    assert timedelta(days=2) < ends <= timedelta(days=3)
