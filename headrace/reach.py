"""What other users of this machine can do with the files that a configuration names, and with itself.

Secrets must not be read: the journal, databases, private keys. What decides whom the server trusts must not
be changed. Each is looked at where it really lies, whatever links lead there.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from headrace.config import Config
from headrace.databases import files
from headrace.finding import Finding

_OTHERS: Final = 0o077
_OTHERS_PASS: Final = 0o011
_OTHERS_WRITE: Final = 0o022
_COMPANIONS: Final = ("", "-wal", "-shm")


def status_of(path: Path) -> os.stat_result | None:
    """None for what is not there, or not for us to see."""
    try:
        return path.stat()
    except OSError:
        return None


def listed(folder: Path) -> list[Path]:
    """What lies in it, as far as we may see it."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


# Who can read.


def readable_files(config: Config) -> Iterator[Finding]:
    """Secrets that others get at."""
    journal = _target(Path(config.journal.path))
    if any(_is_exposed(path) for path in (journal, *listed(journal))):
        yield _readable("[journal] path", journal, f"chmod -R go= {journal}")
    for key, path in _secrets(config):
        if any(_is_exposed(Path(f"{path}{suffix}")) for suffix in _COMPANIONS):
            yield _readable(key, path, f"chmod go= {path}*")


def _secrets(config: Config) -> Iterator[tuple[str, Path]]:
    """Databases and private keys, with the keys that name them."""
    for file in files(config).values():
        section, _, key = file.tables.setting.rpartition(".")
        yield f"[{section}] {key}", _target(file.path)
    keys = {"ingest": config.ingest.tls_key, "storage.cassandra": config.storage.cassandra.tls_key}
    yield from (
        (f"[{section}] tls_key", _target(Path(key))) for section, key in keys.items() if key is not None
    )


def _readable(key: str, path: Path, right: str) -> Finding:
    return Finding(key, f"other users of this machine get at {path}", right)


def _is_exposed(path: Path) -> bool:
    """Whether others have any right to it, and its folder lets them through."""
    return _others_have(_OTHERS, _target(path))


# Who can write.


def changeable_files(config: Config, source: Path | None) -> Iterator[Finding]:
    """What the server goes by, where others can change it or put another file in its place."""
    for key, path in _trusted(config, source):
        target = _target(path)
        if _others_have(_OTHERS_WRITE, target):
            yield Finding(key, f"other users of this machine can change {target}", f"chmod go-w {target}")
            continue
        folders = (each.absolute().parent for each in (path, target))
        if (folder := next(filter(_others_replace_in, folders), None)) is not None:
            yield Finding(
                key,
                f"other users of this machine can replace what lies in {folder}",
                f"chmod go-w {folder}",
            )


def _trusted(config: Config, source: Path | None) -> Iterator[tuple[str, Path]]:
    """What says who is let in and who is believed, with the keys that name it."""
    named = {
        "configuration": source,
        "[ingest] tls_client_ca": config.ingest.tls_client_ca,
        "[ingest] tls_client_crl": config.ingest.tls_client_crl,
        "[storage.cassandra] tls_ca": config.storage.cassandra.tls_ca,
    }
    yield from ((key, Path(path)) for key, path in named.items() if path is not None)


def _others_replace_in(folder: Path) -> bool:
    """Whether others may rename and delete there what is not theirs."""
    status = status_of(folder)
    return status is not None and bool(status.st_mode & _OTHERS_WRITE) and not status.st_mode & stat.S_ISVTX


def _others_have(rights: int, target: Path) -> bool:
    own, folder = status_of(target), status_of(target.absolute().parent)
    return (
        own is not None
        and folder is not None
        and bool(own.st_mode & rights and folder.st_mode & _OTHERS_PASS)
    )


def _target(path: Path) -> Path:
    """Where links lead; the path as it is written if it is the same place."""
    real = Path(os.path.realpath(path))
    return path if real == path.absolute() else real
