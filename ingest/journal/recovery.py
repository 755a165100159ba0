"""What an earlier server left behind: where it stopped, and what of a damaged segment can be saved.

SQLite recovers a segment by itself: everything that was committed is there again. Two kinds of damage
need more than that, because the blocks in question may have been acknowledged:

* A wrong bit inside the write-ahead log. SQLite stops reading the log at the first frame whose check sum
  is wrong, as it can't know what came behind.
* A wrong bit where SQLite begins: in the head, or on the way to the last block. (Behind any other one it
  is the readers who save what can be saved, when they come there.)

All blocks that are still right (see `salvage`) are written to a new segment under the same name; the
files as they were found are moved to `damaged/`. What is missing then, readers notice and report as
damaged blocks. The one damage that nobody can see is in the very last commit: a wrong bit in its mark, or of
a log written ahead in what its blocks need. It makes a commit look as if the power had gone before its end.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ingest.errors import JournalBrokenError
from ingest.journal.renumbering import finish_renumbering
from ingest.journal.salvage import frames, salvage
from ingest.journal.segment import (
    Segment,
    SegmentHead,
    companions,
    delete,
    is_written_ahead,
    log_size,
    segment_paths,
    used_log,
    write_segment,
)
from parser.block import DamagedBlockError
from storage.syncing import sync


class Found(NamedTuple):
    """A segment that was there at start."""

    path: Path
    head: SegmentHead
    last: tuple[int, int, int]
    """Id, next record and stamp of its last block."""


def recover(folder: Path, journal: str) -> Iterator[Found]:
    """The segments of a journal in order, saved where they were damaged; empty ones are deleted."""
    finish_renumbering(folder)
    _finish_saving(folder)
    _finish_trimming(folder)
    paths = segment_paths(folder)
    for path in paths:
        try:
            found = _inspect(path, newest=path == paths[-1])
        except (JournalBrokenError, DamagedBlockError):
            found = _save(path, journal)
        if found is not None:
            yield found


def _inspect(path: Path, *, newest: bool) -> Found | None:
    """What a healthy segment holds; one that was never begun is deleted."""
    segment = Segment(path)
    try:
        head = segment.head()
        last = segment.last() if head is not None else None
        valid, is_ahead = segment.log_frames(), is_written_ahead(path)
        may_be_torn = newest and is_ahead
        if _goes_on(path, valid, (last.id if last is not None else 0) if may_be_torn else None):
            raise JournalBrokenError(f"{path}: its log goes on behind a damaged place")
        if is_ahead:
            segment.cut_log(log_size(valid) if may_be_torn else used_log(path))
    finally:
        segment.close()
    if head is None and salvage(path, committed=newest):  # the one before another did hold blocks
        raise JournalBrokenError(f"{path}: has blocks and no head")
    if head is None or last is None:
        delete(path)
        return None
    return Found(path, head, (last.id, last.next_record, last.stamp_us))


def _goes_on(path: Path, valid: int, last: int | None) -> bool:
    """Whether the log goes on, with a commit, behind the place where SQLite stopped reading it.

    With `last` its very last commit may be there in part: the power went before its sync was over. It was not
    acknowledged; only if a block behind that one is whole it is more likely damage.
    """
    marks = [is_commit for _, is_commit, _ in islice(frames(path), valid, None)]
    if last is None or any(marks[:-1]):
        return any(marks)
    return any(marks) and max(salvage(path), default=0) > last


def _save(path: Path, journal: str) -> Found | None:
    """Write all blocks that are still right to a new segment, and keep the old files aside."""
    blocks = list(salvage(path).values())
    found = None
    if blocks:
        last = blocks[-1]
        head = write_segment(Path(f"{path}.saved"), journal, blocks)
        found = Found(path, head, (last.id, last.next_record, last.stamp_us))
    _move_aside(path)
    _finish_saving(path.parent)
    return found


def _finish_saving(folder: Path) -> None:
    """Give saved segments their names, also those of a server that was killed while it saved them."""
    for saved in sorted(folder.glob("*.db.saved")):
        path = saved.with_suffix("")
        _move_aside(path)
        saved.rename(path)
    sync(folder)


def _finish_trimming(folder: Path) -> None:
    """Delete what is left of segments whose deletion a kill cut short: the database goes first."""
    for file in folder.glob("*.db-*"):
        if not file.with_name(file.name.partition("-")[0]).exists():
            file.unlink()


def _move_aside(path: Path) -> None:
    aside = path.parent / "damaged"
    aside.mkdir(mode=0o700, exist_ok=True)
    for file in companions(path):
        file.rename(_free(aside / file.name))


def _free(path: Path) -> Path:
    """This path, or one like it that nothing has yet: the same segment can be damaged twice."""
    number = 0
    free = path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free
