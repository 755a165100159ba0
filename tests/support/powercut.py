"""A disk whose power can be cut: what was written and not synced may be gone, whole or in part.

Inside `PowerCut` every SQLite database that is opened anew lies on such a disk. All works as usual, on
the real files. Beside that, for each file it is known what the last sync made durable, and which writes
came since. `survivors` puts into another folder what might be found after a power cut at this very
moment: of each write since the last sync nothing, all, or its first sectors, in any combination. A file
that was never synced may be missing, one that was deleted without a sync of its folder may be back.

The disk is honest about syncs: what `xSync` returned for is durable. Called from `watch`, which is told
of every write and sync, a test can look at the survivors of a cut at any of these moments, while the
database goes on undisturbed.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Final, Self

import apsw

_SECTOR: Final = 512
_SHARED_MEMORY: Final = "-shm"


@dataclass
class _Image:
    """What is durable of a file, and the changes since."""

    durable: bytearray
    synced: bool
    changes: list[tuple[int, bytes | None]] = field(default_factory=list)
    """(offset, data) for a write, (size, None) for a truncation."""

    def sync(self) -> None:
        self.durable = self._with(self.changes)
        self.changes = []
        self.synced = True

    def after_a_cut(self, random: Random) -> bytes | None:
        if not self.synced and random.random() < 0.5:
            return None
        return bytes(self._with([_worn(change, random) for change in self.changes if random.random() < 0.5]))

    def _with(self, changes: list[tuple[int, bytes | None]]) -> bytearray:
        image = bytearray(self.durable)
        for offset, data in changes:
            if data is None:
                del image[offset:]
            else:
                image.extend(bytes(max(0, offset - len(image))))
                image[offset : offset + len(data)] = data
        return image


def _worn(change: tuple[int, bytes | None], random: Random) -> tuple[int, bytes | None]:
    """The change, or only the first sectors of a write."""
    offset, data = change
    if data is None or random.random() < 0.5:
        return change
    return offset, data[: random.randrange(len(data) // _SECTOR + 1) * _SECTOR]


class PowerCut:
    """A context in which every database opened lies on a disk that can lose its power."""

    def __init__(self) -> None:
        self._images: dict[str, _Image] = {}
        self._deleted: dict[str, bytes] = {}
        self._lock = threading.RLock()
        self._watcher: Callable[[], None] | None = None
        self._vfs: _Disk | None = None

    def __enter__(self) -> Self:
        """Become the disk on which databases are opened."""
        self._vfs = _Disk(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the place back to the usual disk; close the databases before."""
        apsw.set_default_vfs("unix")
        if self._vfs is not None:
            self._vfs.unregister()

    def watch(self, watcher: Callable[[], None] | None) -> None:
        """Call this before and after every write, sync, truncation and deletion."""
        self._watcher = watcher

    def survivors(self, folder: Path, into: Path, random: Random) -> None:
        """Put into another, empty folder what a power cut now would leave of the databases in a folder."""
        with self._lock:
            found = dict(self._deleted) if random.random() < 0.5 else {}
            for name, image in self._images.items():
                content = image.after_a_cut(random)
                if content is not None:
                    found[name] = content
        for name, content in found.items():
            path = Path(name)
            if path.parent == folder and not name.endswith(_SHARED_MEMORY):
                (into / path.name).write_bytes(content)

    def opened(self, name: str) -> None:
        """A file was opened; whatever it holds before we saw it counts as durable."""
        with self._lock:
            if name not in self._images:
                content = Path(name).read_bytes()
                self._images[name] = _Image(bytearray(content), synced=bool(content))

    def changed(self, name: str, offset: int, data: bytes | None) -> None:
        """A file was written or, without data, truncated."""
        self._tell()
        with self._lock:
            self._images[name].changes.append((offset, data))
        self._tell()

    def synced(self, name: str) -> None:
        """A file was synced."""
        self._tell()
        with self._lock:
            self._images[name].sync()
        self._tell()

    def deleted(self, name: str, *, for_good: bool) -> None:
        """A file was deleted; for good if its folder was synced after it."""
        with self._lock:
            image = self._images.pop(name, None)
            if for_good:
                self._deleted.clear()
            elif image and image.synced:
                self._deleted[name] = bytes(image.durable)
        self._tell()

    def _tell(self) -> None:
        if self._watcher is not None:
            self._watcher()


class _Disk(apsw.VFS):
    def __init__(self, power: PowerCut) -> None:
        self._power = power
        super().__init__(f"powercut-{id(power)}", "unix", makedefault=True)

    def xOpen(  # noqa: N802 - SQLite's name for it
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:
            return apsw.VFSFile("unix", name, flags)
        file = _File(self._power, name, path, flags)
        self._power.opened(path)
        return file

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802 - SQLite's interface
        super().xDelete(filename, syncdir)
        self._power.deleted(filename, for_good=syncdir)


class _File(apsw.VFSFile):
    def __init__(
        self, power: PowerCut, name: str | apsw.URIFilename | None, path: str, flags: list[int]
    ) -> None:
        self._power = power
        self._path = path
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name for it
        super().xWrite(data, offset)
        self._power.changed(self._path, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name for it
        super().xTruncate(newsize)
        self._power.changed(self._path, newsize, None)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name for it
        super().xSync(flags)
        self._power.synced(self._path)
