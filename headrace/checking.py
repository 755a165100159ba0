"""What can be used as it is and would better be otherwise: `check-config` shows it, `serve` logs it at start.

Findings of a configuration are the same whoever looks at it, if he may read the files that it names. Those of
a process are about the one that serves, so only that one looks for them: another shell has another user.
"""

import os
import shutil
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

import structlog

from headrace.config import Config
from headrace.finding import Finding
from headrace.reach import changeable_files, listed, readable_files, status_of
from ingest.errors import CertificateError
from ingest.tls import Certificates

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_SHARES: Final = (
    "max_connections_per_address",
    "max_connects_per_minute",
    "max_records_per_s",
    "max_bytes_per_s",
)
_SOON: Final = timedelta(days=14)

_log = structlog.get_logger("headrace")


def of_config(config: Config, source: Path | None) -> list[Finding]:
    """What is unwise about a configuration on this machine, which stands in this file or is the defaults.

    Raises:
        CertificateError: it names certificates that can't be used.
    """
    checks = (_machines, _certificates, _pages, _journal_disk, readable_files)
    found = [finding for check in checks for finding in check(config)]
    return [*found, *changeable_files(config, source)]


def say(config: Config, source: Path | None) -> None:
    """Log what is unwise about serving this, once each."""
    try:
        found = of_config(config, source)
    except CertificateError as error:  # they were good a moment ago, when the listeners took them
        found = [Finding("[ingest] tls_cert", str(error), "the next reload or start would be refused")]
    for finding in (*found, *of_process()):
        _log.warning("unwise", key=finding.key, reason=finding.reason, right=finding.right)


def of_process() -> list[Finding]:
    """What is unwise about serving from this process."""
    return list(_user())


# Who gets in.


def _machines(config: Config) -> Iterator[Finding]:
    ingest = config.ingest
    if _is_everywhere(ingest.host) and not ingest.allow and ingest.tls_client_ca is None:
        yield Finding(
            "[ingest] host",
            "everybody who reaches this machine can send",
            "allow limits it to some networks, tls_client_ca to those who have a certificate",
        )
    if not _is_loopback(ingest.host) and all(getattr(ingest, key) is None for key in _SHARES):
        yield Finding(
            "[ingest] " + ", ".join(_SHARES),
            "one machine can take all places, and all of the time and the disk",
            "set at least one of them, to what a machine of yours needs at most",
        )
    if ingest.tls_client_ca is not None and not ingest.bind_identity:
        yield Finding(
            "[ingest] bind_identity",
            "whoever has a certificate can send for every machine",
            "set it to true, and list in identities who sends for others",
        )


def _certificates(config: Config) -> Iterator[Finding]:
    if config.ingest.tls_cert is None:
        return
    found = Certificates(config.ingest)
    if found.until - datetime.now(UTC) < _SOON:
        yield Finding(
            f"[ingest] {found.first_to_end}",
            f"ends on {found.until:%Y-%m-%d}, and then no machine gets in",
            "another one in its place is taken over by a reload",
        )


def _pages(config: Config) -> Iterator[Finding]:
    if not config.http.login:
        yield Finding(
            "[http] login",
            "everybody on this machine may do everything on pages and API",
            "set it to true where people share the machine",
        )
    if config.http.host not in _LOOPBACK and not config.http.https:
        yield Finding(
            "[http] host",
            "passwords and tokens cross the network as they are",
            "put a proxy with TLS in front, and set [http] https",
        )


def _is_everywhere(host: str) -> bool:
    address = _listened_on(host)
    return not host if address is None else address.is_unspecified


def _is_loopback(host: str) -> bool:
    address = _listened_on(host)
    return host == "localhost" if address is None else address.is_loopback


def _listened_on(host: str) -> IPv4Address | IPv6Address | None:
    """The address that the system makes of it, as of `0` or `127.1`; None for a name: none is looked up."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        address = ip_address(str(found[0][4][0]))
    except (OSError, UnicodeError, ValueError):
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


# Where there is room.


def _journal_disk(config: Config) -> Iterator[Finding]:
    folder = Path(config.journal.path)
    disk = shutil.disk_usage(_existing(folder))
    with_tables = config.storage.backend == "sqlite" and _share_a_disk(
        folder, Path(config.storage.sqlite.path)
    )
    most = config.journal.max_bytes
    room = disk.free + _size(folder)
    if room < most:
        also = ", and nothing is written to the tables either, which lie there too" if with_tables else ""
        yield Finding(
            "[journal] max_bytes",
            f"{most} is more than the {room} bytes that its disk has for it: reading will pause when"
            f" the disk is full{also}",
            "make room, or set it to less",
        )
    elif with_tables and disk.total < 2 * most:
        yield Finding(
            "[journal] max_bytes",
            f"{most} is more than half of its disk ({disk.total} bytes), where the tables lie too",
            "set it to less, or [journal] path to another disk",
        )


def _existing(path: Path) -> Path:
    """The path, or the folder in which it will be made."""
    whole = path.absolute()
    return next(found for found in (whole, *whole.parents) if status_of(found) is not None)


def _share_a_disk(one: Path, other: Path) -> bool:
    return _existing(one).stat().st_dev == _existing(other).stat().st_dev


def _size(folder: Path) -> int:
    """What lies in it already, and in the folders of workers there."""
    workers = [path for path in listed(folder) if path.name.startswith("worker-")]
    files = [path for place in (folder, *workers) for path in listed(place)]
    return sum(status.st_size for path in files if (status := status_of(path)) is not None)


# What the process is.


def _user() -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield Finding(
            "user", "the server runs as root, and needs nothing of that", "run it as a user of its own"
        )
