"""Whose journal it is, and who has it: the file `lock`, which outlives every segment."""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from ingest.errors import JournalError, JournalLockedError

_FILE: Final = "lock"
_LONGEST: Final = 4096


class Identity(msgspec.Struct, frozen=True):
    """What the file says."""

    journal: str
    node: int


def lock(folder: Path) -> int:
    """Take a journal for this process, for as long as it lives; the folder is made where there is none.

    Returns:
        The file's descriptor; closing it lets go.

    Raises:
        JournalLockedError: another server has it.
        JournalError: there can't be one.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(f"{folder}: the journal can't be made there: {error.strerror}") from error
    if not _taken(handle):
        os.close(handle)
        raise JournalLockedError(
            f"{folder}: another server is writing to this journal; give each its own [journal] path"
        )
    return handle


def identify(folder: Path, handle: int, node: int) -> tuple[Identity, bool]:
    """Whose journal it is, and whether that was decided just now.

    Raises:
        JournalError: another node's, or it doesn't say.
    """
    found = _read(folder, handle)
    if found is None:
        identity = Identity(uuid.uuid4().hex, node)
        os.pwrite(handle, msgspec.json.encode(identity), 0)
        os.fsync(handle)
        return identity, True
    if found.node != node:
        raise JournalError(
            f"{folder}: is the journal of node {found.node}, not of node {node}; "
            "set [ingest] node_id or [journal] path accordingly"
        )
    return found, False


@contextmanager
def held(folder: Path) -> Iterator[Identity]:
    """Keep every server from writing to a journal that is there, for as long as the context lasts.

    Raises:
        JournalLockedError: a server has it.
        JournalError: there is none, or it doesn't say whose it is.
    """
    try:
        handle = os.open(folder / _FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise JournalError(f"{folder}: holds no journal ({error.strerror})") from error
    try:
        if not _taken(handle):
            raise JournalLockedError(f"{folder}: its server is running; stop it first, and keep it stopped")
        found = _read(folder, handle)
        if found is None:
            raise JournalError(f"{folder}: holds no journal (its lock file is empty)")
        yield found
    finally:
        os.close(handle)


def owner(folder: Path) -> Identity | None:
    """Whose journal it is, also while its server has it; None where there is none.

    Raises:
        JournalError: it doesn't say.
    """
    try:
        handle = os.open(folder / _FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _read(folder, handle)
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read(folder: Path, handle: int) -> Identity | None:
    content = os.pread(handle, _LONGEST, 0)
    if not content:
        return None
    try:
        return msgspec.json.decode(content, type=Identity)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise JournalError(f"{folder / _FILE}: does not say whose journal it is: {error}") from None
