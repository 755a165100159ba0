"""The certificates of the listeners, and who the owner of a certificate is.

New connections are met with what was loaded last; those that are there keep what they began with, so
certificates can be renewed while machines send. What can't be used is refused as a whole, and the old ones
stay.

TLS 1.2 and 1.3, the library's ciphers. Keys are exchanged over P-256, which every TLS 1.3 has to know (RFC
8446, 9.1): among the library's own choice are groups (ffdhe8192) that cost us many times as much a packet. No
renegotiation, which costs the server more than the client; no compression; in TLS 1.3 no tickets: a machine
that connects once a day has no use for them.
"""

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import structlog

from ingest.errors import CertificateError, HandshakeError
from ingest.reasons import WhyRefused
from ingest.revocation import Issue, Revoked, compared, load_revoked
from ingest.settings import IngestSettings
from storage.files import MAX_PEM_BYTES, read_ordinary

if TYPE_CHECKING:
    from cryptography import x509

MAX_IDENTITY: Final = 255
"""Characters."""

_GROUP: Final = "prime256v1"

_log = structlog.get_logger("ingest")


class _Loaded(NamedTuple):
    """What the files come to."""

    context: ssl.SSLContext
    until: datetime
    first_to_end: str
    revoked: frozenset[Issue]


class Certificates:
    """What the listeners prove themselves with, and whom they ask for a proof."""

    def __init__(self, settings: IngestSettings) -> None:
        """Load what `tls_cert`, `tls_key`, `tls_client_ca` and `tls_client_crl` name.

        Raises:
            CertificateError: one of them can't be used.
        """
        self._settings = settings
        self._loaded = _load(settings)

    @property
    def context(self) -> ssl.SSLContext:
        """For the next connection."""
        return self._loaded.context

    @property
    def until(self) -> datetime:
        """When the first of the server's own certificates, or of the lists of revoked ones, ends, UTC."""
        return self._loaded.until

    @property
    def first_to_end(self) -> str:
        """The key that names what ends then."""
        return self._loaded.first_to_end

    @property
    def revoked(self) -> frozenset[Issue]:
        """Certificates that nobody is let in with any more."""
        return self._loaded.revoked

    async def renew(self) -> None:
        """Load the files anew, while machines are read: a long list of revoked ones takes half a second.

        Raises:
            CertificateError: one of them can't be used; everything stays as it was.
        """
        self._loaded = await asyncio.to_thread(_load, self._settings)


def identity_of(certificate: dict[str, Any]) -> str:
    """Who a certificate (as `ssl` shows it) is for: its first DNS name, else its first URI, else its CN.

    Raises:
        HandshakeError: it names nobody, or somebody who can't be shown.
    """
    identity = next(_names(certificate), "")
    if not 0 < len(identity) <= MAX_IDENTITY or not identity.isprintable():
        raise HandshakeError(WhyRefused.TLS_FAILED, "the certificate has no name that can be used")
    return identity


def _names(certificate: dict[str, Any]) -> Iterator[str]:
    alternatives = cast("tuple[tuple[str, str], ...]", certificate.get("subjectAltName", ()))
    for wanted in ("DNS", "URI"):
        yield from (name for kind, name in alternatives if kind == wanted)
    subject = cast("tuple[tuple[tuple[str, str], ...], ...]", certificate.get("subject", ()))
    yield from (value for part in subject for kind, value in part if kind == "commonName")


def issue_of(certificate: bytes) -> Issue:
    """Which certificate this is, of its DER.

    Raises:
        HandshakeError: it can't be read, whatever the library for the handshake made of it.
    """
    from cryptography import x509  # noqa: PLC0415  # 14 MB that a server without TLS does without

    try:
        found = x509.load_der_x509_certificate(certificate)
    except (ValueError, x509.InvalidVersion) as error:
        raise HandshakeError(WhyRefused.TLS_FAILED, "a certificate that can't be read") from error
    return Issue(compared(found.issuer), found.serial_number)


def _load(settings: IngestSettings) -> _Loaded:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0
    context.set_ecdh_curve(_GROUP)
    until = _load_own(context, Path(settings.tls_cert or ""), Path(settings.tls_key or ""))
    revoked = Revoked()
    if settings.tls_client_ca is not None:
        authorities = _load_authorities(context, Path(settings.tls_client_ca))
        if settings.tls_client_crl is not None:
            revoked = load_revoked(context, Path(settings.tls_client_crl), authorities)
    ends, key = min((until, "tls_cert"), (revoked.until, "tls_client_crl"))
    return _Loaded(context, ends, key, revoked.certificates)


def _load_own(context: ssl.SSLContext, cert: Path, key: Path) -> datetime:
    until = _check_dates("tls_cert", cert, _certificates("tls_cert", cert), every=True)
    _read("tls_key", key)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise CertificateError(
            f"[ingest] tls_key: {key} is no key without a password that fits the certificate {cert}"
        ) from error
    return until


def _load_authorities(context: ssl.SSLContext, path: Path) -> "list[x509.Certificate]":
    found = _certificates("tls_client_ca", path)
    _check_dates("tls_client_ca", path, found, every=False)  # an old authority may end beside the new one
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise CertificateError(f"[ingest] tls_client_ca: {path}: {error.reason}") from error
    return found


def _certificates(key: str, path: Path) -> "list[x509.Certificate]":
    from cryptography import x509  # noqa: PLC0415  # 14 MB that a server without TLS does without

    try:
        return x509.load_pem_x509_certificates(_read(key, path))
    except (ValueError, x509.InvalidVersion) as error:
        raise CertificateError(f"[ingest] {key}: {path} holds no certificate in PEM format") from error


def _check_dates(key: str, path: Path, found: "Sequence[x509.Certificate]", *, every: bool) -> datetime:
    """When the first of a file's certificates ends, of those that are valid now.

    Raises:
        CertificateError: none is, or where `every` one has to be, one is not.
    """
    now = datetime.now(UTC)
    dates = [(each.not_valid_before_utc, each.not_valid_after_utc) for each in found]
    valid = [last for first, last in dates if first <= now <= last]
    if not valid or (every and len(valid) < len(found)):
        first, last = next((first, last) for first, last in dates if last not in valid)
        raise CertificateError(
            f"[ingest] {key}: {path} is valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}, not today"
        )
    return min(valid)


def _read(key: str, path: Path) -> bytes:
    try:
        return read_ordinary(path, MAX_PEM_BYTES)
    except OSError as error:
        raise CertificateError(f"[ingest] {key}: {path}: {error.strerror}") from error


def _no_password() -> str:
    raise ValueError("a password can't be asked for")
