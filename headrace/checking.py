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
from typing import Final, NamedTuple

import structlog

from headrace.config import Config
from headrace.databases import files
from ingest.errors import CertificateError
from ingest.tls import Certificates

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_SHARES: Final = (
    "max_connections_per_address",
    "max_connects_per_minute",
    "max_records_per_s",
    "max_bytes_per_s",
)
_OTHERS: Final = 0o077
_OTHERS_PASS: Final = 0o011
_SOON: Final = timedelta(days=14)
_COMPANIONS: Final = ("", "-wal", "-shm")

_log = structlog.get_logger("headrace")


class Finding(NamedTuple):
    """Something unwise."""

    key: str
    reason: str
    right: str
    """What would be right."""

    def __str__(self) -> str:
        """In one line."""
        return f"{self.key}: {self.reason}; {self.right}"


def of_config(config: Config) -> list[Finding]:
    """What is unwise about a configuration on this machine.

    Raises:
        CertificateError: it names certificates that can't be used.
    """
    checks = (_machines, _certificates, _pages, _journal_disk, _readable_files)
    return [finding for check in checks for finding in check(config)]


def say(config: Config) -> None:
    """Log what is unwise about serving this, once each."""
    try:
        found = of_config(config)
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
    return next(found for found in (whole, *whole.parents) if _status(found) is not None)


def _share_a_disk(one: Path, other: Path) -> bool:
    return _existing(one).stat().st_dev == _existing(other).stat().st_dev


def _size(folder: Path) -> int:
    """What lies in it already, and in the folders of workers there."""
    workers = [path for path in _listed(folder) if path.name.startswith("worker-")]
    files = [path for place in (folder, *workers) for path in _listed(place)]
    return sum(status.st_size for path in files if (status := _status(path)) is not None)


def _status(path: Path) -> os.stat_result | None:
    """None for what is not there, or not for us to see."""
    try:
        return path.stat()
    except OSError:
        return None


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


# Who can read.


def _readable_files(config: Config) -> Iterator[Finding]:
    journal = Path(config.journal.path)
    if any(_is_exposed(path) for path in (journal, *_listed(journal))):
        yield _readable("[journal] path", journal, f"chmod -R go= {journal}")
    for key, path in _single_files(config):
        if any(_is_exposed(Path(f"{path}{suffix}")) for suffix in _COMPANIONS):
            yield _readable(key, path, f"chmod go= {path}*")


def _single_files(config: Config) -> Iterator[tuple[str, Path]]:
    """Databases and private keys, with the keys that name them."""
    for file in files(config).values():
        section, _, key = file.tables.setting.rpartition(".")
        yield f"[{section}] {key}", file.path
    keys = {"ingest": config.ingest.tls_key, "storage.cassandra": config.storage.cassandra.tls_key}
    yield from ((f"[{section}] tls_key", Path(key)) for section, key in keys.items() if key is not None)


def _readable(key: str, path: Path, right: str) -> Finding:
    return Finding(key, f"other users of this machine get at {path}", right)


def _is_exposed(path: Path) -> bool:
    """Whether others have any right to it, and its folder lets them through."""
    own, folder = _status(path), _status(path.absolute().parent)
    return (
        own is not None
        and folder is not None
        and bool(own.st_mode & _OTHERS and folder.st_mode & _OTHERS_PASS)
    )


# What the process is.


def _user() -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield Finding(
            "user", "the server runs as root, and needs nothing of that", "run it as a user of its own"
        )
