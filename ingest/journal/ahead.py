"""The files that the next segment will be, made before it is needed: its database, and its log full of zeros.

A commit that makes a file longer waits for the file system's own journal, and that for what other processes
wrote to the same disk: while a database beside it flushes, for a tenth of a second. A commit that writes over
what was there before waits for its own bytes alone. SQLite takes a log of zeros for an empty one, writes it
from its beginning, and takes the zeros behind its last frame for the log's end.

The log is written in small synced parts, at a pace that leaves the disk to the commits. Where records come
faster than that, a segment's log grows with its commits until one is ready again.
"""

import os
import shutil
from pathlib import Path
from typing import Final

from ingest.errors import JournalBrokenError, JournalFullError
from ingest.journal.segment import Segment, companions, delete, log_of
from ingest.settings import MIB

_ZEROS: Final = bytes(MIB)
_PART_BYTES: Final = 4 * MIB
_SPARE_LOGS: Final = 3
"""Less room on the disk than that of so many logs is left to the commits."""


def log_bytes_for(segment_bytes: int) -> int:
    """How long a log has to be: the last commit goes beyond the size of its segment."""
    return segment_bytes + segment_bytes // 16


class Ahead:
    """What is made ahead in a journal's folder: the keeper makes it, the committer takes it."""

    def __init__(self, folder: Path, log_bytes: int, *, vfs: str | None) -> None:
        """`log_bytes` is how long a log gets."""
        self._database = folder / "spare"
        self._log = log_of(self._database)
        self._log_bytes = log_bytes
        self._vfs = vfs

    def make(self) -> None:
        """Make the database, where there is none.

        Raises:
            JournalError: it can't be made.
        """
        if self._database.exists():
            return
        making = self._database.with_suffix(".new")
        delete(making)
        segment = Segment(making, create=True, vfs=self._vfs)
        segment.truncate_log()
        segment.close()
        for file in companions(making)[1:]:
            file.unlink()
        making.rename(self._database)

    def write_log(self) -> bool:
        """Write the next part of the log; whether there is more to write.

        On a disk that is nearly full there is none: its room is for the commits.

        Raises:
            OSError: it can't be written; what was written of it is deleted.
        """
        making = self._log.with_suffix(".new")
        if shutil.disk_usage(self._log.parent).free < _SPARE_LOGS * self._log_bytes:
            self._log.unlink(missing_ok=True)
            making.unlink(missing_ok=True)
            return False
        if self._has_log():
            return False
        try:
            with making.open("ab") as file:
                if file.tell() > self._log_bytes:
                    file.truncate(self._log_bytes)
                missing = max(self._log_bytes - file.tell(), 0)
                part = min(missing, _PART_BYTES)
                for start in range(0, part, MIB):
                    file.write(_ZEROS[: part - start])
                    file.flush()
                    os.fdatasync(file.fileno())
        except OSError:
            making.unlink(missing_ok=True)
            raise
        if missing > part:
            return True
        making.rename(self._log)
        return False

    def take(self, path: Path) -> Segment | None:
        """The segment made ahead, under this name; None where there is none, or it is damaged by now.

        Its log has its name first: without a database a log is deleted by the next start.

        It may have lain there for months; what goes into a damaged one is acknowledged and not found again.
        """
        if not self._database.exists():
            return None
        if self._has_log():
            self._log.rename(log_of(path))
        self._database.rename(path)
        try:
            segment = Segment(path, vfs=self._vfs)
            if segment.is_sound():
                return segment
            segment.close()
        except JournalFullError:
            delete(path)
            raise
        except JournalBrokenError:
            pass
        delete(path)
        return None

    def _has_log(self) -> bool:
        """Whether there is a log; one of another length, as of other settings, is deleted."""
        if not self._log.exists():
            return False
        if self._log.stat().st_size != self._log_bytes:
            self._log.unlink()
            return False
        return True
