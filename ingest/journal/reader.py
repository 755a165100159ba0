"""Reading the journal in order, from any process, while it is written.

A block that can't be read (its check fails, or SQLite can't find it) is given as a `DamagedBlock` with the
number of records that it held, which the numbers around it tell; the segment it was in is kept under
`damaged/` as a hard link. So a damaged block costs itself only, and is never passed over silently.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ingest.errors import JournalError
from ingest.journal.salvage import salvage
from ingest.journal.segment import Segment, SegmentHead, companions, segment_paths
from parser.block import Block, DamagedBlockError
from storage.base import DamagedBlock

_BLOCKS_AT_ONCE: Final = 16
_LOOKED_FOR: Final = 1024


class JournalReader:
    """A place in a journal, moving forward."""

    def __init__(self, folder: Path, next_record: int | None = None) -> None:
        """Begin anywhere; `next_record` is the number expected next there, where it is known."""
        self._folder = folder
        self._next_record = next_record
        self._heads: dict[Path, SegmentHead] = {}
        self._segment: Segment | None = None
        self._saved: list[Block] | None = None
        """All that is right in the open segment, once it was found to be damaged."""

    def first_block(self) -> int | None:
        """The oldest block that the journal has; None where it has none."""
        return next((head.first_block for _, head in self._readable()), None)

    def read(self, after: int, max_bytes: int) -> list[Block | DamagedBlock]:
        """The next blocks with id > after, in order, a few or until `max_bytes`; none at the end.

        Damaged blocks are held back until a good one behind them tells how many records they held.
        """
        found: list[Block | DamagedBlock] = []
        size = 0
        while size < max_bytes and (blocks := self._next_blocks(after)):
            for block in blocks:
                found += self._missing(range(after + 1, block.id), block)
                found.append(block)
                self._next_record = block.next_record
                after = block.id
                size += len(block.payload)
        return found

    def close(self) -> None:
        """Let go of the open segment."""
        if self._segment is not None:
            self._segment.close()
        self._segment = None
        self._saved = None

    def _next_blocks(self, after: int) -> list[Block]:
        """Good blocks behind `after`, from the segment that has them."""
        while True:
            if blocks := self._from_open_segment(after):
                return blocks
            later = self._later(after)
            if blocks := self._from_open_segment(after):
                return blocks  # written before the later one was begun
            if later is None:
                return []
            if self._segment and self._saved is None and self._heads[later].first_block > after + 1:
                self._save(self._segment)  # its last blocks are not where they should be
                continue
            self.close()
            with _trimmed(later):
                self._segment = Segment(later)

    def _from_open_segment(self, after: int) -> list[Block]:
        """Its next blocks; where it is damaged, those that can be saved."""
        if self._segment is None:
            return []
        if self._saved is None:
            with suppress(JournalError, DamagedBlockError):
                blocks = [row.decode() for row in self._segment.rows(after, _BLOCKS_AT_ONCE)]
                expected = max(after + 1, self._heads[self._segment.path].first_block)
                if [block.id for block in blocks] == list(range(expected, expected + len(blocks))):
                    return blocks
            if self._later(after) is None:
                return _one_by_one(self._segment, after)
            self._save(self._segment)
        return [block for block in self._saved or () if block.id > after][:_BLOCKS_AT_ONCE]

    def _save(self, segment: Segment) -> None:
        """Go on with what is right in a damaged segment; not while it is written to."""
        _keep_aside(segment.path)
        self._saved = list(salvage(segment.path).values())

    def _later(self, after: int) -> Path | None:
        """The segment to go on with once the open one has nothing more."""
        readable = self._readable()
        if self._segment is not None:
            return next((path for path, _ in readable if path > self._segment.path), None)
        holding = [path for path, head in readable if head.first_block <= after + 1]
        return holding[-1] if holding else next((path for path, _ in readable), None)

    def _readable(self) -> list[tuple[Path, SegmentHead]]:
        """The segments that have begun, in order."""
        paths = segment_paths(self._folder)
        for path in paths:
            if path not in self._heads and (head := _read_head(path)) is not None:
                self._heads[path] = head
        for trimmed in self._heads.keys() - {*paths, self._segment and self._segment.path}:
            del self._heads[trimmed]
        return [(path, self._heads[path]) for path in paths if path in self._heads]

    def _missing(self, blocks: range, behind: Block) -> list[DamagedBlock]:
        """The damaged blocks before a good one; the last of them carries the records of all."""
        start = self._next_record if self._next_record is not None else self._first_record()
        missing = [DamagedBlock(block, behind.node, start, 0, behind.stamp_us) for block in blocks]
        if missing:
            missing[-1] = missing[-1]._replace(records=behind.first_record - start)
        return missing

    def _first_record(self) -> int:
        """The first number of the open segment, for a reader that began with it."""
        assert self._segment is not None  # noqa: S101  # a block was read from it
        return self._heads[self._segment.path].first_record


def _one_by_one(segment: Segment, after: int) -> list[Block]:
    """The next good blocks of a segment that is damaged and still written to."""
    blocks: list[Block] = []
    for number in range(after + 1, after + 1 + _LOOKED_FOR):
        with suppress(JournalError, DamagedBlockError):
            if (row := segment.row(number)) is not None:
                blocks.append(row.decode())
        if len(blocks) >= _BLOCKS_AT_ONCE:
            break
    return blocks


def _read_head(path: Path) -> SegmentHead | None:
    """The head of a segment; None where it is empty, gone or not readable."""
    try:
        segment = Segment(path)
    except JournalError:
        return None
    try:
        return segment.head()
    except JournalError:
        return None
    finally:
        segment.close()


@contextmanager
def _trimmed(path: Path) -> Iterator[None]:
    """Let a segment go that was trimmed just now, as everybody has passed it."""
    try:
        yield
    except JournalError:
        if path.exists():
            raise


def _keep_aside(path: Path) -> None:
    """Keep a segment's files beyond the life of the segment."""
    damaged = path.parent / "damaged"
    damaged.mkdir(mode=0o700, exist_ok=True)
    for file in companions(path):
        with suppress(FileExistsError):
            os.link(file, damaged / file.name)
