"""The files of TLS: what can be used, what is said of others, and how they are renewed."""

import asyncio
import os
import shutil
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from headrace.authority import make_authority, make_server
from ingest import tls
from ingest.errors import CertificateError
from ingest.settings import IngestSettings
from ingest.tls import Certificates
from parser.settings import Rules
from storage.files import MAX_PEM_BYTES
from tests.ingest.building import DEADLINE_S
from tests.ingest.floor import RECORD, Floor, floor, reached
from tests.ingest.tls import client, connect, settings
from tests.support.certificates import Certificates as Plant
from tests.support.certificates import of_a_later_version

pytestmark = pytest.mark.usefixtures("nothing_unexpected")


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
            await shop.listener.certificates.renew()
        other = await connect(shop, client(certificates))
        shutil.copy(certificates.stranger_server.certificate, cert)
        await shop.listener.certificates.renew()
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(shop, client(certificates))
        for each in (machine, other):
            await each.send(RECORD)
        await reached(lambda: shop.records == 2, "the records")
        assert not shop.closed
        for each in (machine, other):
            await each.close()


async def test_machines_are_read_while_certificates_are(
    certificates: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that takes, as with a long list of revoked ones."""
    heard, load = threading.Event(), tls._load

    def slow(found: IngestSettings) -> tls._Loaded:
        assert heard.wait(DEADLINE_S)
        return load(found)

    async with floor(settings(certificates)) as shop:
        assert shop.listener.certificates is not None
        machine = await connect(shop, client(certificates))
        monkeypatch.setattr(tls, "_load", slow)
        before = shop.listener.certificates.context
        renewing = asyncio.create_task(shop.listener.certificates.renew())
        await asyncio.sleep(0)
        await machine.send(RECORD)
        await reached(lambda: shop.records == 1, "the record")
        assert shop.listener.certificates.context is before
        heard.set()
        await renewing
        assert shop.listener.certificates.context is not before
        await machine.close()


async def test_a_server_that_can_not_prove_itself_does_not_start(certificates: Plant) -> None:
    """And ends at once: nothing was made into a block, so nothing is waited for."""
    shop = Floor(settings(certificates, tls_key=str(certificates.stranger.key)), Rules())
    with pytest.raises(CertificateError, match=r"\[ingest\] tls_key: .* fits the certificate"):
        await shop.listener.start("0.0.0")
    assert shop.listener.assembler.settled.is_set()


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


@pytest.mark.parametrize("key", ["tls_cert", "tls_key", "tls_client_ca", "tls_client_crl"])
def test_what_is_no_ordinary_file_is_refused(certificates: Plant, tmp_path: Path, key: str) -> None:
    """A pipe would be waited for, by a reload and then by the end of the server; a folder holds nothing."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(CertificateError) as error:
            Certificates(settings(certificates, **{key: str(path)}))
        assert str(error.value) == f"[ingest] {key}: {path}: is no ordinary file"


def test_a_file_that_is_too_large_is_refused(certificates: Plant, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(MAX_PEM_BYTES + 1)
    with pytest.raises(CertificateError, match=r"tls_client_ca: .*file: is larger than 16 MiB"):
        Certificates(settings(certificates, tls_client_ca=str(path)))


def test_a_certificate_of_a_version_that_there_is_not_is_refused(certificates: Plant, tmp_path: Path) -> None:
    """With the same words as any other that can't be read."""
    later = of_a_later_version(certificates, tmp_path / "later.pem").certificate
    with pytest.raises(CertificateError, match=r"tls_client_ca: .*later\.pem holds no certificate"):
        Certificates(settings(certificates, tls_client_ca=str(later)))


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
