"""The file that the next segment will be, made before it is needed."""

from pathlib import Path

from ingest.errors import JournalBrokenError
from ingest.journal.segment import Segment, companions


class Ahead:
    """What is made ahead in a journal's folder: the keeper makes it, the committer takes it."""

    def __init__(self, folder: Path, *, vfs: str | None) -> None:
        self._database = folder / "spare"
        self._vfs = vfs

    def make(self) -> None:
        """Make the database, where there is none.

        Raises:
            JournalError: it can't be made.
        """
        if self._database.exists():
            return
        making = self._database.with_suffix(".new")
        for file in companions(making):
            file.unlink()
        segment = Segment(making, create=True, vfs=self._vfs)
        segment.truncate_log()
        segment.close()
        for file in companions(making)[1:]:
            file.unlink()
        making.rename(self._database)

    def take(self, path: Path) -> Segment | None:
        """The segment made ahead, under this name; None where there is none, or it is damaged by now.

        It may have lain there for months; what goes into a damaged one is acknowledged and not found again.
        """
        if not self._database.exists():
            return None
        self._database.rename(path)
        try:
            segment = Segment(path, vfs=self._vfs)
            if segment.is_sound():
                return segment
            segment.close()
        except JournalBrokenError:
            pass
        for file in companions(path):
            file.unlink()
        return None
