"""What an earlier server left behind: where it stopped, and what of a damaged segment can be saved.

SQLite recovers a segment by itself: everything that was committed is there again. Two kinds of damage
need more than that, because the blocks in question may have been acknowledged:

* A flipped bit inside the write-ahead log. SQLite stops reading the log at the first frame whose check
  sum is wrong, as it can't know what came behind. We can, since every block carries a check of its own:
  the frames behind are put in place regardless, and only blocks whose own check is right are taken.
* A page of the database that can't be read. The blocks are fetched one by one, and those that are there
  and right are taken.

What was saved is written to a new segment under the same name; the files as they were found are moved to
`damaged/`. What is missing then, readers notice and report as damaged blocks.
"""

import shutil
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from ingest.clock import ClockReading
from ingest.errors import JournalBrokenError, JournalError
from ingest.journal.reader import readable_rows
from ingest.journal.segment import Segment, SegmentHead, companions, segment_paths
from parser.block import Block, DamagedBlockError, decode_block

_LOG_HEADER: Final = struct.Struct(">8I")
_FRAME_HEADER: Final = struct.Struct(">6I")


class Found(NamedTuple):
    """A segment that was there at start."""

    path: Path
    head: SegmentHead
    last: tuple[int, int, int]
    """Id, next record and stamp of its last block."""


def recover(folder: Path, journal: str) -> Iterator[Found]:
    """The segments of a journal in order, saved where they were damaged; empty ones are deleted."""
    for path in segment_paths(folder):
        found = _inspect(path) if not _has_lost_frames(path) else None
        if found is None:
            found = _save(path, journal)
        if found is not None:
            yield found


def _inspect(path: Path) -> Found | None:
    """What a healthy segment holds; None where it is empty or damaged."""
    try:
        segment = Segment(path)
    except JournalBrokenError:
        return None
    try:
        head = segment.head()
        return None if head is None else Found(path, head, segment.last())
    except JournalBrokenError:
        return None
    finally:
        segment.close()


def _has_lost_frames(path: Path) -> bool:
    """Whether the log goes on, with a commit, behind the place where SQLite stopped reading it."""
    log = Path(f"{path}-wal")
    if not log.exists():
        return False
    commits = [number for number, frame in enumerate(_frames(log.read_bytes()), 1) if frame.commits]
    with suppress(JournalError):
        segment = Segment(path)
        try:
            valid, _ = segment.checkpoint()
        finally:
            segment.close()
        return bool(commits) and commits[-1] > max(valid, 0)
    return True


class _Frame(NamedTuple):
    page: int
    commits: bool
    content: memoryview


def _frames(log: bytes) -> Iterator[_Frame]:
    """The frames of a log that belong to its last generation, whatever their check sums say."""
    if len(log) < _LOG_HEADER.size:
        return
    _, _, size, _, *salts, _, _ = _LOG_HEADER.unpack_from(log)
    view = memoryview(log)
    step = _FRAME_HEADER.size + size
    for start in range(_LOG_HEADER.size, len(log) - step + 1, step):
        page, pages_after_commit, *frame_salts, _, _ = _FRAME_HEADER.unpack_from(log, start)
        if frame_salts != salts:
            return
        yield _Frame(page, bool(pages_after_commit), view[start + _FRAME_HEADER.size : start + step])


def _save(path: Path, journal: str) -> Found | None:
    """Write all blocks that can be read anyhow to a new segment, and keep the old files aside."""
    aside = path.parent / "damaged"
    aside.mkdir(mode=0o700, exist_ok=True)
    blocks: dict[int, Block] = {}
    for attempt in (_copy_as_found, _copy_with_all_frames):
        copy = attempt(path, aside)
        for block in _good_blocks(copy):
            blocks.setdefault(block.id, block)
        _delete(copy)
    if not blocks and not _holds_anything(path):
        _delete(path)
        return None
    for file in companions(path):
        file.rename(aside / file.name)
    if not blocks:
        return None
    return _rewrite(path, journal, [blocks[number] for number in sorted(blocks)])


def _holds_anything(path: Path) -> bool:
    """Whether a segment was ever begun; one that can't be opened may have been."""
    try:
        segment = Segment(path)
    except JournalError:
        return True
    try:
        return segment.head() is not None
    except JournalError:
        return True
    finally:
        segment.close()


def _copy_as_found(path: Path, aside: Path) -> Path:
    copy = aside / f"reading-{path.name}"
    for file in companions(path):
        if not file.name.endswith("-shm"):
            shutil.copyfile(file, aside / f"reading-{file.name}")
    return copy


def _copy_with_all_frames(path: Path, aside: Path) -> Path:
    """The database as it would be if the whole log were right."""
    copy = aside / f"reading-{path.name}"
    log = Path(f"{path}-wal")
    image = bytearray(path.read_bytes())
    waiting: list[_Frame] = []
    for frame in _frames(log.read_bytes() if log.exists() else b""):
        waiting.append(frame)
        if frame.commits:
            for page in waiting:
                size = len(page.content)
                start = (page.page - 1) * size
                image.extend(bytes(max(0, start + size - len(image))))
                image[start : start + size] = page.content
            waiting = []
    copy.write_bytes(image)
    return copy


def _good_blocks(path: Path) -> Iterator[Block]:
    try:
        segment = Segment(path)
    except JournalError:
        return
    try:
        head = _head_or_none(segment)
        after = head.first_block - 1 if head is not None else 0
        while rows := readable_rows(segment, after):
            after = rows[-1].id
            for row in rows:
                with suppress(DamagedBlockError):
                    yield decode_block(row.id, row.header, row.payload, row.crc)
    finally:
        segment.close()


def _head_or_none(segment: Segment) -> SegmentHead | None:
    try:
        return segment.head()
    except JournalError:
        return None


def _rewrite(path: Path, journal: str, blocks: list[Block]) -> Found:
    first, last = blocks[0], blocks[-1]
    head = SegmentHead(journal, first.node, first.id, first.first_record, ClockReading.now())
    segment = Segment(path, create=True)
    segment.begin(head)
    segment.append(blocks)
    segment.truncate_log()
    segment.close()
    return Found(path, head, (last.id, last.next_record, last.stamp_us))


def _delete(path: Path) -> None:
    for file in companions(path):
        file.unlink()
