"""A small authority in a folder: certificates for a plant that has no authority of its own.

    ca.pem, ca.key          the authority
    NAME.pem, NAME.key      a server or a machine

Keys are EC P-256, of their owner alone (0600), and never overwritten unless that is asked for. A machine's
certificate is good for connecting only, a server's for being connected to only, neither for signing others.
Which of them are revoked stands in a list, see `headrace.revoking`.
"""

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from headrace.errors import ConfigError, FailedError
from parser.reference import read_device_id

AUTHORITY: Final = "ca"

EARLIER: Final = timedelta(days=1)
"""Clocks of machines are behind."""

_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.(?!-)[A-Za-z0-9_-]{1,63})*")


class Pair(NamedTuple):
    """The files of a certificate."""

    certificate: Path
    key: Path
    until: datetime


class Authority(NamedTuple):
    """Who signs."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_authority(folder: Path, name: str, *, days: int, force: bool = False) -> Pair:
    """Make an authority; `name` is what people see of it.

    Raises:
        ConfigError: there is one already, and `force` is not given.
        FailedError: the files can't be written.
    """
    files = _free(folder, AUTHORITY, force=force, authority=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    builder = (
        _builder(subject, subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
    )
    return _write(files, builder.sign(key, hashes.SHA256()), key)


def make_server(folder: Path, names: Sequence[str], *, days: int, force: bool = False) -> Pair:
    """Make a server's certificate, for the names and addresses that machines connect to.

    Raises:
        ConfigError: a name is none, there is no authority, or the files are there already.
        FailedError: the files can't be written.
    """
    alternatives = [_server_name(name) for name in names]
    files = _free(folder, names[0], force=force)
    return _issue(
        folder, files, names[0][:64], alternatives, purpose=ExtendedKeyUsageOID.SERVER_AUTH, days=days
    )


def make_device(folder: Path, device: str, *, days: int, force: bool = False) -> Pair:
    """Make a machine's certificate; its identity is the device's name.

    Raises:
        ConfigError: the name is no device's, there is no authority, or the files are there already.
        FailedError: the files can't be written.
    """
    if read_device_id(device.encode()) is None or device != device.strip():
        raise ConfigError(f"{device!r}: a device's name is 1 to 64 printable ASCII characters")
    files = _free(folder, device, force=force)
    names = [x509.DNSName(device)] if _HOST.fullmatch(device) else []
    return _issue(folder, files, device, names, purpose=ExtendedKeyUsageOID.CLIENT_AUTH, days=days)


def _issue(
    folder: Path,
    files: tuple[Path, Path],
    name: str,
    alternatives: Sequence[x509.GeneralName],
    *,
    purpose: x509.ObjectIdentifier,
    days: int,
) -> Pair:
    authority = read_authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    builder = (
        _builder(_subject(name), issuer.subject, key.public_key(), days, issuer.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return _write(files, builder.sign(authority.key, hashes.SHA256()), key)


def read_authority(folder: Path) -> Authority:
    """The authority in a folder.

    Raises:
        ConfigError: there is none, or it has ended.
    """
    try:
        certificate = x509.load_pem_x509_certificate((folder / f"{AUTHORITY}.pem").read_bytes())
        key = load_pem_private_key((folder / f"{AUTHORITY}.key").read_bytes(), password=None)
    except OSError as error:
        raise ConfigError(
            f"{error.filename}: {error.strerror}; headrace cert ca makes an authority"
        ) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{folder}: {AUTHORITY}.pem or {AUTHORITY}.key can't be read") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigError(f"{folder}: {AUTHORITY}.key is not the key of {AUTHORITY}.pem")
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        raise ConfigError(f"{folder}: the authority has expired; headrace cert ca --force makes another one")
    return Authority(certificate, key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    days: int,
    latest: datetime | None = None,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    until = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(until if latest is None else min(until, latest))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _subject(name: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    except ValueError as error:
        raise ConfigError(f"{name!r}: a name has 1 to 64 characters") from error


def _server_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        if len(name) > 253 or not _HOST.fullmatch(name):
            raise ConfigError(f"{name!r}: neither a host's name nor an address") from None
        return x509.DNSName(name)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _free(folder: Path, name: str, *, force: bool, authority: bool = False) -> tuple[Path, Path]:
    """The files for a certificate and its key, which are not there yet."""
    if name == AUTHORITY and not authority:
        raise ConfigError(f"{name}: is what the authority's own files are called")
    stem = quote(name, safe=" ")
    files = folder / f"{stem}.pem", folder / f"{stem}.key"
    try:
        found = [path for path in files if path.exists()]
    except OSError as error:  # a name that is too long for a file's, or a folder that lets nobody look
        raise FailedError(f"{error.filename}: {error.strerror}") from error
    if found and not force:
        raise ConfigError(f"{found[0]}: is there already; --force overwrites it")
    return files


def _write(files: tuple[Path, Path], certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        files[0].parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace(files[1], secret, 0o600)
        replace(files[0], certificate.public_bytes(Encoding.PEM), 0o644)
    except OSError as error:
        raise FailedError(f"{error.filename}: {error.strerror}") from error
    return Pair(*files, certificate.not_valid_after_utc)


def replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file that nobody sees half, and nobody else at any time who may not."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(path)
