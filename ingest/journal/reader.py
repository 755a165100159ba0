"""Reading the journal in order, from any process, while it is written.

A block that can't be read (its check fails, or SQLite can't find it) is given as a `DamagedBlock` with the
number of records that it held, which the numbers around it tell; the segment it was in is kept under
`damaged/` as a hard link. So a damaged block costs itself only, and is never passed over silently.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ingest.errors import JournalError
from ingest.journal.segment import BlockRow, Segment, SegmentHead, companions, segment_paths
from parser.block import Block, DamagedBlockError, decode_block
from storage.base import DamagedBlock

_ROWS_AT_ONCE: Final = 16


class JournalReader:
    """A place in a journal, moving forward."""

    def __init__(self, folder: Path, next_record: int | None = None) -> None:
        """Begin anywhere; `next_record` is the number expected next there, where it is known."""
        self._folder = folder
        self._next_record = next_record
        self._heads: dict[Path, SegmentHead] = {}
        self._segment: Segment | None = None
        self._held: list[DamagedBlock] = []

    def first_block(self) -> int | None:
        """The oldest block that the journal has; None where it has none."""
        return next((head.first_block for _, head in self._readable()), None)

    def read(self, after: int, max_bytes: int) -> list[Block | DamagedBlock]:
        """The next blocks with id > after, in order, a few or until `max_bytes`; none at the end.

        Damaged blocks are held back until a good one behind them tells how many records they held.
        """
        found: list[Block | DamagedBlock] = []
        size = 0
        after = max(after, self._held[-1].id if self._held else 0)
        while size < max_bytes and (rows := self._next_rows(after)):
            for row in rows:
                self._take(row, after + 1, found)
                after = row.id
                size += len(row.payload)
        return found

    def close(self) -> None:
        """Let go of the open segment."""
        if self._segment is not None:
            self._segment.close()
        self._segment = None

    def _next_rows(self, after: int) -> list[BlockRow]:
        """Rows behind `after`, from the segment that has them."""
        while True:
            if self._segment is not None and (rows := readable_rows(self._segment, after)):
                return rows
            later = self._later(after)
            if self._segment is not None and (rows := readable_rows(self._segment, after)):
                return rows  # written before the later one was begun
            if later is None:
                return []
            self.close()
            with _trimmed(later):
                self._segment = Segment(later)

    def _later(self, after: int) -> Path | None:
        """The segment to go on with once the open one has nothing more."""
        readable = self._readable()
        if self._segment is not None:
            return next((path for path, _ in readable if path > self._segment.path), None)
        holding = [path for path, head in readable if head.first_block <= after + 1]
        return holding[-1] if holding else next((path for path, _ in readable), None)

    def _readable(self) -> list[tuple[Path, SegmentHead]]:
        """The segments that have begun, in order."""
        for path in segment_paths(self._folder):
            if path not in self._heads and (head := _read_head(path)) is not None:
                self._heads[path] = head
        return [(path, self._heads[path]) for path in sorted(self._heads) if path.exists()]

    def _take(self, row: BlockRow, expected: int, found: list[Block | DamagedBlock]) -> None:
        """Add a row to what was found, together with what is missing before it."""
        self._hold(range(expected, row.id))
        try:
            block = decode_block(row.id, row.header, row.payload, row.crc)
        except DamagedBlockError:
            self._hold([row.id])
            return
        found += self._release(block)
        found.append(block)
        self._next_record = block.next_record

    def _hold(self, blocks: Iterable[int]) -> None:
        damaged = [DamagedBlock(block, 0, 0, 0, 0) for block in blocks]
        self._held += damaged
        if damaged and self._segment is not None:
            _keep_aside(self._segment.path)

    def _release(self, behind: Block) -> list[DamagedBlock]:
        """The damaged blocks before a good one; the last of them carries the records of all."""
        start = self._next_record
        if start is None:
            start = self._first_record()
        held = [DamagedBlock(d.id, behind.node, start, 0, behind.stamp_us) for d in self._held]
        if held:
            held[-1] = held[-1]._replace(records=behind.first_record - start)
        self._held = []
        return held

    def _first_record(self) -> int:
        """The first number of the open segment, for a reader that began with it."""
        assert self._segment is not None  # noqa: S101  # a block was read from it
        return self._heads[self._segment.path].first_record


def readable_rows(segment: Segment, after: int) -> list[BlockRow]:
    """The next rows; one by one, where the table is damaged."""
    try:
        return segment.rows(after, _ROWS_AT_ONCE)
    except JournalError:
        return _rows_one_by_one(segment, after)


def _rows_one_by_one(segment: Segment, after: int) -> list[BlockRow]:
    end = after + 1 + 4096
    rows: list[BlockRow] = []
    for block in range(after + 1, end):
        with suppress(JournalError):
            row = segment.row(block)
            if row is not None:
                rows.append(row)
        if len(rows) >= _ROWS_AT_ONCE:
            break
    return rows


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
