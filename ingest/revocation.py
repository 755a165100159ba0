"""Lists of revoked certificates (CRL, RFC 5280): who has a stolen key is let in no more.

Each authority that machines' certificates are from has its list. A list that has ended says nothing any more,
so with it nobody is let in; therefore it is refused when it is read, while the one before still counts.
"""

import re
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from ingest.errors import CertificateError

if TYPE_CHECKING:
    from cryptography import x509

_LIST: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
_FOR_EVER: Final = datetime.max.replace(tzinfo=UTC)


class Revoked(NamedTuple):
    """What all lists say together."""

    serials: frozenset[int] = frozenset()
    """Numbers of certificates. Of two authorities two certificates can have the same one."""

    until: datetime = _FOR_EVER
    """When the first list ends, UTC."""


def load_revoked(context: ssl.SSLContext, path: Path, authorities: "Sequence[x509.Certificate]") -> Revoked:
    """Have the lists of a file asked at each handshake, for the certificate that a machine shows.

    Raises:
        CertificateError: one of them can't be used, or an authority has none.
    """
    lists = _read(path)
    now = datetime.now(UTC)
    for each in lists:
        _check(path, each, authorities, now)
    for authority in authorities:
        if authority.not_valid_after_utc > now and all(each.issuer != authority.subject for each in lists):
            name = authority.subject.rfc4514_string()
            raise _wrong(path, f"has no list of {name}, which is in tls_client_ca")
    context.load_verify_locations(path)
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    serials = frozenset(entry.serial_number for each in lists for entry in each)
    return Revoked(serials, min(each.next_update_utc or _FOR_EVER for each in lists))


def _read(path: Path) -> "list[x509.CertificateRevocationList]":
    from cryptography import x509  # noqa: PLC0415  # 14 MB that a server without TLS does without

    try:
        lists = [x509.load_pem_x509_crl(found) for found in _LIST.findall(path.read_bytes())]
    except OSError as error:
        raise CertificateError(f"[ingest] tls_client_crl: {path}: {error.strerror}") from error
    except ValueError as error:
        raise _wrong(path, "holds a list that can't be read") from error
    if not lists:
        raise _wrong(path, "holds no list of revoked certificates in PEM format")
    return lists


def _check(
    path: Path,
    found: "x509.CertificateRevocationList",
    authorities: "Sequence[x509.Certificate]",
    now: datetime,
) -> None:
    name = found.issuer.rfc4514_string()
    if not any(_is_of(found, authority) for authority in authorities):
        raise _wrong(path, f"the list of {name} is signed by no authority in tls_client_ca")
    until = found.next_update_utc or _FOR_EVER
    if not found.last_update_utc <= now < until:
        first, last = found.last_update_utc, until
        raise _wrong(path, f"the list of {name} is valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}, not today")


def _is_of(found: "x509.CertificateRevocationList", authority: "x509.Certificate") -> bool:
    try:
        return found.issuer == authority.subject and found.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except TypeError:  # a key of a kind that signs no lists
        return False


def _wrong(path: Path, what: str) -> CertificateError:
    return CertificateError(f"[ingest] tls_client_crl: {path}: {what}")
