"""Lists of revoked certificates (CRL, RFC 5280): who has a stolen key is let in no more.

Each authority that machines' certificates are from has its list. A list that has ended says nothing any more,
so with it nobody is let in; therefore it is refused when it is read, while the one before still counts. So is
whatever the library would take for something else: lists of some reasons or some certificates only, and those
that say what has changed since another one.
"""

import re
import ssl
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from ingest.errors import CertificateError
from storage.files import MAX_PEM_BYTES, read_ordinary

if TYPE_CHECKING:
    from cryptography import x509

_LIST: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
_FOR_EVER: Final = datetime.max.replace(tzinfo=UTC)


Name = tuple[frozenset[tuple[str, bytes]], ...]
"""Of an authority, as it is compared: a name can be written in more than one way, and its bytes say how."""


class Issue(NamedTuple):
    """One certificate: whose, and the number that it has there."""

    authority: Name
    number: int


class Revoked(NamedTuple):
    """What all lists say together."""

    certificates: frozenset[Issue] = frozenset()
    until: datetime = _FOR_EVER
    """When the first list of an authority that hasn't ended itself ends, UTC."""


def compared(name: "x509.Name") -> Name:
    """A name such that two are equal if they are to the library that judges at handshakes.

    Kinds of strings make no difference, nor do capitals of ASCII or the amount of white space (RFC 5280).
    """
    return tuple(
        frozenset((each.oid.dotted_string, _plain(each.value)) for each in part) for part in name.rdns
    )


def _plain(value: str | bytes) -> bytes:
    return b" ".join(value.encode().split()).lower() if isinstance(value, str) else value


def load_revoked(context: ssl.SSLContext, path: Path, authorities: "Sequence[x509.Certificate]") -> Revoked:
    """Have the lists of a file asked at each handshake, for the certificate that a machine shows.

    Raises:
        CertificateError: one of them can't be used, or an authority has none.
    """
    now = datetime.now(UTC)
    living = [each for each in authorities if each.not_valid_after_utc > now]
    lists = _read(path)
    for each in lists:
        _check(path, each, authorities)
    for authority in living:
        _check_dates(path, authority, [each for each in lists if _is_of(each, authority)], now)
    _load(context, path, len(lists))
    ends = (each.next_update_utc for each in lists if any(_is_of(each, authority) for authority in living))
    until = min((end for end in ends if end is not None), default=_FOR_EVER)
    return Revoked(frozenset(issue for each in lists for issue in _issues(each)), until)


def _load(context: ssl.SSLContext, path: Path, lists: int) -> None:
    before = context.cert_store_stats()
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise _wrong(path, "holds something that can't be read") from error
    if context.cert_store_stats() != {**before, "crl": before["crl"] + lists}:
        raise _wrong(path, "holds something else than lists, or one list twice")
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _read(path: Path) -> "list[x509.CertificateRevocationList]":
    from cryptography import x509  # noqa: PLC0415  # 14 MB that a server without TLS does without

    try:
        content = read_ordinary(path, MAX_PEM_BYTES)
        lists = [x509.load_pem_x509_crl(found) for found in _LIST.findall(content)]
    except OSError as error:
        raise CertificateError(f"[ingest] tls_client_crl: {path}: {error.strerror}") from error
    except (ValueError, x509.InvalidVersion) as error:
        raise _wrong(path, "holds a list that can't be read") from error
    if not lists:
        raise _wrong(path, "holds no list of revoked certificates in PEM format")
    return lists


def _check(
    path: Path, found: "x509.CertificateRevocationList", authorities: "Sequence[x509.Certificate]"
) -> None:
    from cryptography import x509  # noqa: PLC0415

    name = found.issuer.rfc4514_string()
    if not any(_is_of(found, authority) for authority in authorities):
        raise _wrong(path, f"the list of {name} is signed by no authority in tls_client_ca")
    try:
        odd = [each.oid.dotted_string for each in found.extensions if not _is_usual(each)]
    except (ValueError, x509.DuplicateExtension) as error:
        raise _wrong(path, f"the list of {name} has extensions that can't be read") from error
    if odd:
        raise _wrong(path, f"the list of {name} is not of all its certificates (extension {odd[0]})")


def _is_usual(extension: "x509.Extension[x509.ExtensionType]") -> bool:
    """Whether a list with it is still one of all that machines may have, as it stands."""
    from cryptography import x509  # noqa: PLC0415

    value = extension.value
    if isinstance(value, x509.IssuingDistributionPoint):
        partial = value.only_some_reasons or value.indirect_crl or value.only_contains_ca_certs
        return not (partial or value.only_contains_attribute_certs or value.full_name or value.relative_name)
    return not isinstance(value, x509.DeltaCRLIndicator) and not extension.critical


def _check_dates(
    path: Path,
    authority: "x509.Certificate",
    lists: "Sequence[x509.CertificateRevocationList]",
    now: datetime,
) -> None:
    name = authority.subject.rfc4514_string()
    if not lists:
        raise _wrong(path, f"has no list of {name}, which is in tls_client_ca")
    for each in lists:
        first, last = each.last_update_utc, each.next_update_utc or _FOR_EVER
        if not first <= now < last:
            raise _wrong(
                path, f"the list of {name} is valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}, not today"
            )


def _is_of(found: "x509.CertificateRevocationList", authority: "x509.Certificate") -> bool:
    try:
        is_named = compared(found.issuer) == compared(authority.subject)
        return is_named and found.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except TypeError:  # a key of a kind that signs no lists
        return False


def _issues(found: "x509.CertificateRevocationList") -> Iterator[Issue]:
    from cryptography import x509  # noqa: PLC0415

    authority = compared(found.issuer)
    for entry in found:
        try:
            reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        except x509.ExtensionNotFound:
            reason = x509.ReasonFlags.unspecified
        if reason is not x509.ReasonFlags.remove_from_crl:
            yield Issue(authority, entry.serial_number)


def _wrong(path: Path, what: str) -> CertificateError:
    return CertificateError(f"[ingest] tls_client_crl: {path}: {what}")
