"""Reading the journal in order, from any process, while it is written.

A block that can't be read (its check fails, or SQLite can't find it) is given as a `DamagedBlock` with the
number of records that it held, which the numbers around it tell; the segment it was in is kept under
`damaged/`, as a hard link where there can be one. So a damaged block costs itself only, and is never passed
over silently. A segment whose head can't be read begins with the first block that can be saved from it.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from ingest.errors import JournalBrokenError, JournalError, JournalFullError
from ingest.journal.salvage import salvage
from ingest.journal.segment import Segment, companions, file_errors, read_file, segment_paths
from parser.block import Block, DamagedBlockError
from storage.base import DamagedBlock

_BLOCKS_AT_ONCE: Final = 16
_SHORT: Final = 24
"""Bytes. Records that are shorter on the average are hardly readings, and as rejects take a hundred times as
much memory: so many of them are a step of their own."""

_LOOKED_FOR: Final = 1024


class _Start(NamedTuple):
    """What a segment begins with."""

    block: int
    record: int


class JournalReader:
    """A place in a journal, moving forward."""

    def __init__(self, folder: Path, next_record: int | None = None) -> None:
        """Begin anywhere; `next_record` is the number expected next there, where it is known."""
        self._folder = folder
        self._next_record = next_record
        self._starts: dict[Path, _Start | None] = {}
        """Of the segments that have begun; None where one is sealed and holds nothing."""

        self._path: Path | None = None
        """The open segment."""

        self._segment: Segment | None = None
        self._saved: list[Block] | None = None
        """All that is right in the open segment, once it was found to be damaged."""

    def first_block(self) -> int | None:
        """The oldest block that the journal has; None where it has none.

        Raises:
            JournalError: the journal's files can't be used just now.
        """
        with file_errors(self._folder):
            return next((start.block for _, start in self._readable()), None)

    def read(self, after: int, max_bytes: int) -> list[Block | DamagedBlock]:
        """The next blocks with id > after, in order, a few or until `max_bytes`; none at the end.

        Damaged blocks are held back until a good one behind them tells how many records they held.

        Raises:
            JournalError: the journal's files can't be used just now.
        """
        with file_errors(self._folder):
            return self._read(after, max_bytes)

    def close(self) -> None:
        """Let go of the open segment."""
        if self._segment is not None:
            self._segment.close()
        self._path = None
        self._segment = None
        self._saved = None

    def _read(self, after: int, max_bytes: int) -> list[Block | DamagedBlock]:
        found: list[Block | DamagedBlock] = []
        size = records = 0
        while size < max_bytes and (blocks := self._next_blocks(after)):
            for block in blocks:
                found += self._missing(range(after + 1, block.id), block)
                found.append(block)
                self._next_record = block.next_record
                after = block.id
                size += len(block.payload)
                records += block.records
                if records * _SHORT > max(size, max_bytes):
                    return found
        return found

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
            if self._path is not None and self._saved is None and self._start(later).block > after + 1:
                self._save(self._path)  # its last blocks are not where they should be
                continue
            self.close()
            self._open(later)

    def _open(self, path: Path) -> None:
        """Go on with this segment, unless it was trimmed just now, as everybody has passed it."""
        try:
            self._segment = Segment(path)
        except JournalError as error:
            if not path.exists():
                return
            if isinstance(error, JournalFullError) or path == segment_paths(self._folder)[-1]:
                raise
            self._save(path)
        self._path = path

    def _from_open_segment(self, after: int) -> list[Block]:
        """Its next blocks; where it is damaged, those that can be saved."""
        if self._path is not None and self._segment is not None and self._saved is None:
            with suppress(JournalBrokenError, DamagedBlockError):
                blocks = [row.decode() for row in self._segment.rows(after, _BLOCKS_AT_ONCE)]
                expected = max(after + 1, self._start(self._path).block)
                if [block.id for block in blocks] == list(range(expected, expected + len(blocks))):
                    return blocks
            if self._later(after) is None:
                return _one_by_one(self._segment, after)
            self._save(self._path)
        return [block for block in self._saved or () if block.id > after][:_BLOCKS_AT_ONCE]

    def _save(self, path: Path) -> None:
        """Go on with what is right in a damaged segment; not while it is written to."""
        _keep_aside(path)
        self._saved = list(salvage(path).values())

    def _later(self, after: int) -> Path | None:
        """The segment to go on with once the open one has nothing more."""
        readable = self._readable()
        if self._path is not None:
            return next((path for path, _ in readable if path > self._path), None)
        holding = [path for path, start in readable if start.block <= after + 1]
        return holding[-1] if holding else next((path for path, _ in readable), None)

    def _readable(self) -> list[tuple[Path, _Start]]:
        """The segments that have begun, in order."""
        paths = segment_paths(self._folder)
        for path in paths:
            if path not in self._starts:
                self._look_into(path, newest=path == paths[-1])
        for trimmed in self._starts.keys() - {*paths, self._path}:
            del self._starts[trimmed]
        return [(path, start) for path in paths if (start := self._starts.get(path)) is not None]

    def _look_into(self, path: Path, *, newest: bool) -> None:
        """Learn what a segment begins with; of the newest one that may not be there yet."""
        start, is_damaged = None, False
        try:
            start = _read_start(path)
        except JournalError as error:
            if isinstance(error, JournalFullError) and path.exists():
                raise
            is_damaged = True
        if start is None:
            if newest or not path.exists():
                return
            start = _saved_start(path)  # one wrong bit can make SQLite read an empty head, too
            if start is not None or is_damaged:
                _keep_aside(path)
        self._starts[path] = start

    def _start(self, path: Path) -> _Start:
        start = self._starts[path]
        assert start is not None  # noqa: S101  # only what has begun is opened
        return start

    def _missing(self, blocks: range, behind: Block) -> list[DamagedBlock]:
        """The damaged blocks before a good one; the last of them carries the records of all."""
        start = self._next_record if self._next_record is not None else self._first_record()
        missing = [DamagedBlock(block, behind.node, start, 0, behind.stamp_us) for block in blocks]
        if missing:
            missing[-1] = missing[-1]._replace(records=behind.first_record - start)
        return missing

    def _first_record(self) -> int:
        """The first number of the open segment, for a reader that began with it."""
        assert self._path is not None  # noqa: S101  # a block was read from it
        return self._start(self._path).record


def _one_by_one(segment: Segment, after: int) -> list[Block]:
    """The next good blocks of a segment that is damaged and still written to."""
    blocks: list[Block] = []
    for number in range(after + 1, after + 1 + _LOOKED_FOR):
        with suppress(JournalBrokenError, DamagedBlockError):
            if (row := segment.row(number)) is not None:
                blocks.append(row.decode())
        if len(blocks) >= _BLOCKS_AT_ONCE:
            break
    return blocks


def _read_start(path: Path) -> _Start | None:
    """What a segment's head says; None where it has none yet."""
    segment = Segment(path)
    try:
        head = segment.head()
    finally:
        segment.close()
    return None if head is None else _Start(head.first_block, head.first_record)


def _saved_start(path: Path) -> _Start | None:
    """The first block that is right in a segment; None where there is none."""
    first = next(iter(salvage(path).values()), None)
    return None if first is None else _Start(first.id, first.first_record)


def _keep_aside(path: Path) -> None:
    """Keep a segment's files beyond the life of the segment."""
    damaged = path.parent / "damaged"
    damaged.mkdir(mode=0o700, exist_ok=True)
    for file in companions(path):
        kept = damaged / file.name
        try:
            os.link(file, kept)
        except FileExistsError:
            continue
        except OSError:  # a file system without hard links
            _copy(file, kept)


def _copy(file: Path, into: Path) -> None:
    """Copy what can be read of a file; under its new name it is whole."""
    making = into.with_name(f"{into.name}.new")
    making.write_bytes(read_file(file))
    making.rename(into)
