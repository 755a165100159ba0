"""One input is damage to the files of a journal; it must start, and deliver all that was not damaged.

The journal has three segments: one that was copied into its database, one that is sealed with its log, and
one that was being written when its server was killed, to a log written ahead. It is made once and damaged in
copies. An input:

    0  whether the journal is written on afterwards, which takes longest: one value in sixteen
    then up to eight times: what is done, to which file, page, place in it (2), length, value, other page

What counts as damaged is found by comparing bytes: a block is whole if no byte of what its commit wrote to a
log has changed, or no byte of the pages in the database that hold its payload.
"""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from ingest.errors import JournalError
from ingest.journal import Journal
from ingest.journal.segment import PAGE_BYTES, Segment, read_log
from ingest.settings import JournalSettings
from parser.block import Block
from storage.base import DamagedBlock
from tests.ingest.building import NODE, SMALLEST, Desk, chain, read_all, until

LONGEST: Final = 65

_RECORDS: Final = 3
_SEGMENT_BYTES: Final = 180 << 10
_SIZES: Final = (9, 3000, 60, 20_000, 400, 8190)
_WRITING_ON: Final = bytes(range(1, 256, 16))
_OPERATION_BYTES: Final = 8
_MOST_OPERATIONS: Final = 8
_LOG_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24

Span = tuple[str, int, int]
"""A file and the bytes from here to before there."""


class Original(NamedTuple):
    """The journal as it was."""

    files: dict[str, bytes]
    blocks: dict[int, Block]
    spans: dict[int, list[Span]]
    """Where each block stands."""


@cache
def original() -> Original:
    """Make the journal."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "journal"
        blocks, spans, used = _write(folder)
        segment = Segment(folder / "00000001.db")
        segment.truncate_log()
        segment.close()
        files = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}
        files["00000003.db-wal"] = used
    database = files["00000001.db"]
    for block in blocks:
        if spans[block.id][0][0] == "00000001.db-wal":
            spans[block.id] = _pages_of(database, block.payload)
    return Original(dict(sorted(files.items())), {block.id: block for block in blocks}, spans)


def _write(folder: Path) -> tuple[list[Block], dict[int, list[Span]], bytes]:
    """Three segments, which part of a log each commit wrote, and the last log as it was in use."""
    blocks: list[Block] = []
    spans: dict[int, list[Span]] = {}
    with Desk(folder) as desk:
        desk.journal._keeper._segment_bytes = _SEGMENT_BYTES
        desk.journal._keeper._ahead_due = math.inf
        desk.journal._keeper._ahead._log_bytes = 2 * _SEGMENT_BYTES
        while len(desk.segments()) < 3 or len(blocks) % len(_SIZES):
            size = _SIZES[len(blocks) % len(_SIZES)]
            blocks += chain(1, after=blocks[-1] if blocks else None, records=_RECORDS, size=size)
            desk.commit(blocks[-1:])
            until((folder / "spare").exists, "a file is made ahead")  # so that all files are always alike
            if len(desk.segments()) == 2:
                desk.journal._keeper._ahead.write_log()
            log = f"{desk.segments()[-1]}-wal"
            start = max(
                (end for ((name, _, end),) in spans.values() if name == log), default=_LOG_HEADER_BYTES
            )
            spans[blocks[-1].id] = [(log, start, len(read_log(folder / desk.segments()[-1])))]
        used = (folder / log).read_bytes()
    return blocks, spans, used


def _pages_of(database: bytes, payload: bytes) -> list[Span]:
    """The pages that hold any of a payload, also a left over copy; its bytes are random, so eight tell it."""
    pages: set[int] = set()
    for at in (*range(0, len(payload) - 8, 16), len(payload) - 8):
        place = database.find(piece := payload[at : at + 8])
        while place >= 0:
            pages |= {place // PAGE_BYTES, (place + 7) // PAGE_BYTES}
            place = database.find(piece, place + 1)
    return [("00000001.db", page * PAGE_BYTES, (page + 1) * PAGE_BYTES) for page in sorted(pages)]


def dictionary() -> list[bytes]:
    """Operations to begin with: the end of each file, a page's head, a bit in the middle."""
    return [bytes([what, file, 0, 1, 3, 1, 1, 0]) for what in range(len(OPERATIONS)) for file in range(6)]


class Operation(NamedTuple):
    """One thing that is done to a file."""

    page: int
    place: int
    """In bytes; within the file."""

    length: int
    value: int
    other: int
    """A second page."""


def _flip(content: bytearray, step: Operation) -> bytearray:
    content[step.place] ^= 1 << step.value % 8
    return content


def _set(content: bytearray, step: Operation) -> bytearray:
    content[step.place] = step.value
    return content


def _zero(content: bytearray, step: Operation) -> bytearray:
    length = min(step.length * 16 + 1, len(content) - step.place)
    content[step.place : step.place + length] = bytes(length)
    return content


def _cut(content: bytearray, step: Operation) -> bytearray:
    return content[: step.place]


def _grow(content: bytearray, step: Operation) -> bytearray:
    return content + content[step.place : step.place + 16 * step.length]


def _copy_page(content: bytearray, step: Operation) -> bytearray:
    size = min(PAGE_BYTES, len(content) - max(step.page, step.other))
    content[step.page : step.page + size] = content[step.other : step.other + size]
    return content


def _swap_pages(content: bytearray, step: Operation) -> bytearray:
    size = min(PAGE_BYTES, len(content) - max(step.page, step.other), abs(step.page - step.other))
    kept = content[step.page : step.page + size]
    content[step.page : step.page + size] = content[step.other : step.other + size]
    content[step.other : step.other + size] = kept
    return content


def _lose(content: bytearray, step: Operation) -> bytearray:
    del step
    return content[:0]


OPERATIONS: Final[tuple[Callable[[bytearray, Operation], bytearray], ...]] = (
    _flip,
    _set,
    _zero,
    _cut,
    _grow,
    _copy_page,
    _swap_pages,
    _lose,
)


def damage(data: bytes) -> dict[str, bytes]:
    """The files after what an input does to them."""
    files = {name: bytearray(content) for name, content in original().files.items()}
    names = list(files)
    for at in range(1, 1 + _OPERATION_BYTES * _MOST_OPERATIONS, _OPERATION_BYTES):
        step = data[at : at + _OPERATION_BYTES]
        if len(step) < _OPERATION_BYTES:
            break
        name = names[step[1] % len(names)]
        if files[name]:
            operation = _operation(step, name, len(files[name]))
            files[name] = OPERATIONS[step[0] % len(OPERATIONS)](files[name], operation)
    return {name: bytes(content) for name, content in files.items()}


def _operation(step: bytes, name: str, size: int) -> Operation:
    """Places as the layout of the file has them: pages of a database, frames of a log."""
    head, frame = (0, 0) if not name.endswith("-wal") else (_LOG_HEADER_BYTES, _FRAME_HEADER_BYTES)
    pages = max((size - head) // (PAGE_BYTES + frame), 1)
    page, other = ((head + number % pages * (PAGE_BYTES + frame)) % size for number in (step[2], step[7]))
    place = page + (step[4] if step[3] % 2 else step[4] * 256 + step[3])
    return Operation(page, min(place, size - 1), step[5], step[6], other)


def whole_blocks(files: dict[str, bytes]) -> set[int]:
    """The blocks of which no byte was changed."""
    made = original()
    changed = {name: _changed(made.files[name], files[name]) for name in files}

    def is_whole(spans: Iterable[Span]) -> bool:
        return not any(changed[name][start:end].any() for name, start, end in spans)

    return {number for number, spans in made.spans.items() if is_whole(spans)}


def _changed(before: bytes, after: bytes) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    changed = np.ones(len(before), np.bool_)
    common = min(len(before), len(after))
    changed[:common] = np.frombuffer(before[:common], np.uint8) != np.frombuffer(after[:common], np.uint8)
    return changed


def run(data: bytes) -> int:
    """Try an input; how many bytes of files it gave to the journal. Raises AssertionError: it is wrong."""
    files = damage(data)
    folder = Path(tempfile.mkdtemp(prefix="headrace-fuzz-", dir=_memory()))
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        _check(folder, files, write_on=data[:1] in _WRITING_ON)
    finally:
        shutil.rmtree(folder)
    return sum(map(len, files.values()))


def _memory() -> str | None:
    """A folder that costs no disk, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # a folder of our own in it


def _check(folder: Path, files: dict[str, bytes], *, write_on: bool) -> None:
    try:
        journal = Journal(JournalSettings(path=str(folder), max_bytes=SMALLEST), NODE)
    except JournalError as error:
        if not _may_refuse(files, error):
            raise
        return
    tail = journal.tail.block
    journal.close()
    _check_delivery(read_all(folder), whole_blocks(files), tail)
    if write_on:
        last = original().blocks.get(tail)
        with Desk(folder) as desk:
            later = chain(2, after=last)
            desk.commit(later)
        assert [block.id for block in read_all(folder)][-2:] == [block.id for block in later]


def _may_refuse(files: dict[str, bytes], error: JournalError) -> bool:
    """Only if it no longer says whose it is, or says that another version wrote it."""
    lock_changed = files["lock"] != original().files["lock"]
    return lock_changed or "can't be read by this version" in str(error)


def _check_delivery(found: list[Block | DamagedBlock], whole: set[int], tail: int) -> None:
    """Every whole block as it was; the others as it was or said to be damaged, with their numbers."""
    blocks = original().blocks
    good = {block.id: block for block in found if isinstance(block, Block)}
    assert [block.id for block in found] == list(range(found[0].id, tail + 1) if found else []), "in order"
    for number, block in good.items():
        assert block.encode() == blocks[number].encode(), f"block {number} is another one"
        assert block.payload == blocks[number].payload, f"block {number} has other bytes"
    assert not whole - good.keys(), f"whole and not delivered: {sorted(whole - good.keys())}"
    lost = [block for block in found if isinstance(block, DamagedBlock)]
    assert sum(block.records for block in lost) == _RECORDS * len(lost), "numbers of damaged blocks"
