"""The list of an authority's revoked certificates (CRL, RFC 5280), in the authority's folder.

    ca.crl     the list, in PEM; servers need it, and it holds no secret

It is there from the authority's beginning, so that servers can be told of it before anything is on it. It is
good for as long as the authority: a list that ended would keep every machine out.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from headrace.authority import AUTHORITY, EARLIER, Authority, read_authority, replace
from headrace.errors import ConfigError, FailedError


class Listed(NamedTuple):
    """A list that was written."""

    path: Path
    certificates: int
    """How many are on it."""

    until: datetime
    begun: bool
    """Whether there was none before."""


def make_list(folder: Path) -> Listed:
    """Make the list of a new authority, with nothing on it.

    Raises:
        ConfigError: there is no authority.
        FailedError: the file can't be written.
    """
    return _write(folder, read_authority(folder), 0, [])


def revoke(folder: Path, names: Iterable[str]) -> Listed:
    """Put the certificates of these names on the list; those that are on it already stay as they are.

    Raises:
        ConfigError: one is not there, or not of this authority; nothing was changed.
        FailedError: the file can't be written.
    """
    authority = read_authority(folder)
    number, entries = _read(folder, authority)
    on_it = {entry.serial_number for entry in entries}
    now = datetime.now(UTC)
    for serial in [_serial(folder, name, authority) for name in names]:
        if serial not in on_it:
            on_it.add(serial)
            builder = x509.RevokedCertificateBuilder()
            entries.append(builder.serial_number(serial).revocation_date(now).build())
    return _write(folder, authority, number, entries)


def _serial(folder: Path, name: str, authority: Authority) -> int:
    if name == AUTHORITY:
        raise ConfigError(f"{name}: the authority itself can't be on its list; make another one")
    path = folder / f"{quote(name, safe=' ')}.pem"
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        certificate.verify_directly_issued_by(authority.certificate)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, InvalidSignature) as error:
        raise ConfigError(f"{path}: is no certificate of this authority") from error
    return certificate.serial_number


def _read(folder: Path, authority: Authority) -> tuple[int, list[x509.RevokedCertificate]]:
    """The list's number and what is on it; an authority that was made before there were lists has none."""
    path = folder / f"{AUTHORITY}.crl"
    if not path.exists():
        return 0, []
    try:
        found = x509.load_pem_x509_crl(path.read_bytes())
        number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (ValueError, x509.ExtensionNotFound) as error:
        raise ConfigError(f"{path}: can't be read; nothing was changed") from error
    if not found.is_signature_valid(authority.key.public_key()):
        raise ConfigError(f"{path}: is the list of another authority; nothing was changed")
    return number, list(found)


def _write(
    folder: Path, authority: Authority, number_before: int, entries: list[x509.RevokedCertificate]
) -> Listed:
    until = authority.certificate.not_valid_after_utc
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(datetime.now(UTC) - EARLIER)
        .next_update(until)
        .add_extension(x509.CRLNumber(number_before + 1), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
    )
    for entry in entries:
        builder = builder.add_revoked_certificate(entry)
    path = folder / f"{AUTHORITY}.crl"
    signed = builder.sign(authority.key, hashes.SHA256())
    try:
        replace(path, signed.public_bytes(Encoding.PEM), 0o644)
    except OSError as error:
        raise FailedError(f"{error.filename}: {error.strerror}") from error
    return Listed(path, len(entries), until, begun=not number_before)
