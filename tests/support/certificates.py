"""Certificates for tests, made once: an authority, a server, some machines, and those of a stranger."""

from pathlib import Path
from ssl import DER_cert_to_PEM_cert
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from headrace.authority import Pair, make_authority, make_device, make_server, read_authority


class Certificates(NamedTuple):
    """Where they are."""

    folder: Path
    """Of the authority: `headrace.authority` makes more in it."""

    ca: Path
    server: Pair
    """For localhost and 127.0.0.1."""

    devices: dict[str, Pair]
    """Of E0001, E0002 and gateway-1."""

    stranger: Pair
    """Of E0001 too, by another authority."""

    stranger_server: Pair


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A plant's certificates."""
    folder, elsewhere = tmp_path_factory.mktemp("certificates"), tmp_path_factory.mktemp("stranger")
    ca = make_authority(folder, "Plant", days=30)
    make_authority(elsewhere, "Stranger", days=30)
    return Certificates(
        folder,
        ca.certificate,
        make_server(folder, ["localhost", "127.0.0.1"], days=30),
        {name: make_device(folder, name, days=30) for name in ("E0001", "E0002", "gateway-1")},
        make_device(elsewhere, "E0001", days=30),
        make_server(elsewhere, ["localhost"], days=30),
    )


def of_a_later_version(plant: Certificates, made: Path) -> Pair:
    """The certificate of E0001 again, as one of version 4, which only some libraries read; RFC 5280, 4.1."""
    mine = plant.devices["E0001"]
    usual = x509.load_pem_x509_certificate(mine.certificate.read_bytes())
    signed = usual.tbs_certificate_bytes.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03", 1)
    signature = read_authority(plant.folder).key.sign(signed, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    content = signed + algorithm + bytes([0x03, len(signature) + 1, 0]) + signature
    made.write_text(DER_cert_to_PEM_cert(b"\x30\x82" + len(content).to_bytes(2) + content))
    return Pair(made, mine.key, mine.until)
