"""A disk that breaks when it is told to: SQLite databases opened on it do, all else is as usual."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import apsw
import pytest

Operation = Literal["write", "sync"]


class Disk:
    """A file system for `Journal(..., vfs=disk.name)`, for as long as it is entered."""

    def __init__(self, *, default: bool = False) -> None:
        """`default`: also for all databases that are opened without saying where, from now on."""
        self.name = f"breaking-{id(self)}"
        self.is_default = default
        self.fails: Callable[[Operation, str], bool] = lambda _operation, _path: False
        """Whether this operation on this file gets EIO."""

        self.sync_s = 0.0
        """How long a sync takes more than it would."""

        self.unreadable: dict[Path, range] = {}
        """Which bytes of a file are on sectors that can't be read any more."""

        self.failed: list[tuple[Operation, str]] = []
        self.syncs = 0

    def __enter__(self) -> Self:
        """Be there under that name."""
        self.appear()
        return self

    def appear(self) -> None:
        """Be there for as long as the process."""
        self._vfs = _Vfs(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Be there no more; close the databases before."""
        self._vfs.unregister()

    def fail_once(self, operation: Operation, suffix: str = "-wal") -> None:
        """EIO for the next such operation on such a file."""
        lock = threading.Lock()

        def first(done: Operation, path: str) -> bool:
            return done == operation and path.endswith(suffix) and lock.acquire(blocking=False)

        self.fails = first

    def fail_always(self, operation: Operation) -> None:
        """EIO from now on."""
        self.fails = lambda done, _path: done == operation

    def operate(self, operation: Operation, path: str) -> None:
        """Called before each.

        Raises:
            apsw.IOError: this one fails.
        """
        if operation == "sync":
            self.syncs += 1
            time.sleep(self.sync_s)
        if self.fails(operation, path):
            self.failed.append((operation, path))
            raise apsw.IOError(f"{operation} failed on purpose")

    def can_read(self, path: str | Path, start: int, size: int) -> bool:
        """Whether no sector in this part of a file is bad."""
        bad = self.unreadable.get(Path(path), range(0))
        return start >= bad.stop or start + size <= bad.start

    def break_reading(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let who reads a file without SQLite come upon bad sectors too."""
        pread, read_bytes = os.pread, Path.read_bytes

        def failing_pread(handle: int, size: int, at: int) -> bytes:
            self._require(Path(f"/proc/self/fd/{handle}").readlink(), at, size)
            return pread(handle, size, at)

        def failing_read_bytes(path: Path) -> bytes:
            self._require(path, 0, path.stat().st_size)
            return read_bytes(path)

        monkeypatch.setattr(os, "pread", failing_pread)
        monkeypatch.setattr(Path, "read_bytes", failing_read_bytes)

    def _require(self, path: str | Path, start: int, size: int) -> None:
        if not self.can_read(path, start, size):
            raise OSError(errno.EIO, os.strerror(errno.EIO))


class _Vfs(apsw.VFS):
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__(disk.name, "unix", makedefault=disk.is_default)

    def xOpen(  # noqa: N802  # SQLite's name for it
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        return _File(self._disk, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        self._path = (name.filename() if isinstance(name, apsw.URIFilename) else name) or ""
        super().__init__("unix", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802  # SQLite's name for it
        if not self._disk.can_read(self._path, offset, amount):
            raise apsw.IOError("a sector can't be read, on purpose")
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  # SQLite's name for it
        self._disk.operate("write", self._path)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802  # SQLite's name for it
        self._disk.operate("sync", self._path)
        super().xSync(flags)
