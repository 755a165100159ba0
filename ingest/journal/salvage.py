"""Saving blocks out of a damaged segment, from its pages and without SQLite.

SQLite gives up a whole branch of its tree for one wrong bit, and all of its log behind one. Each block
carries a check of its own, so here nothing has to be believed: every page that looks like a leaf, in the
database and in any frame of the log, is searched for rows, and what passes its check is a block.

A segment only ever grows, and its log is written once from its beginning. So a page that continues a row
has one content for ever; of several that claim its number (one number may be the wrong bit) the newest
and the oldest are tried. What is read is bounded by the segment's size, whatever the bits say.
The layout is that of https://www.sqlite.org/fileformat2.html, in its chapters 1.6, 2.1 and 4.1.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ingest.journal.segment import PAGE_BYTES
from parser.block import Block, DamagedBlockError, decode_block

_LOG_HEADER_BYTES: Final = 32
_FRAME_HEADER: Final = struct.Struct(">II16x")
_FRAME_BYTES: Final = _FRAME_HEADER.size + PAGE_BYTES
_LEAF: Final = 13
_LEAF_HEADER_BYTES: Final = 8
_MOST_LOCAL: Final = PAGE_BYTES - 35
_LEAST_LOCAL: Final = (PAGE_BYTES - 12) * 32 // 255 - 23
_INTEGER_BYTES: Final = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
_COLUMNS: Final = 7

_Pages = dict[int, list[memoryview]]
"""Every content that a page has had, by its number, the oldest first."""


def frames(path: Path) -> Iterator[tuple[int, bool, memoryview]]:
    """The whole frames of a segment's log, right or wrong: page, whether it commits, content."""
    file = Path(f"{path}-wal")
    log = memoryview(file.read_bytes() if file.exists() else b"")
    for start in range(_LOG_HEADER_BYTES, len(log) - _FRAME_BYTES + 1, _FRAME_BYTES):
        page, pages_after_commit = _FRAME_HEADER.unpack_from(log, start)
        yield page, bool(pages_after_commit), log[start + _FRAME_HEADER.size : start + _FRAME_BYTES]


def salvage(path: Path) -> dict[int, Block]:
    """All blocks that are anywhere in a segment's files, by id, ascending."""
    pages: _Pages = {}
    image = memoryview(path.read_bytes() if path.exists() else b"")
    for start in range(0, len(image), PAGE_BYTES):
        pages.setdefault(start // PAGE_BYTES + 1, []).append(image[start : start + PAGE_BYTES])
    for page, _, content in frames(path):
        pages.setdefault(page, []).append(content)
    blocks: dict[int, Block] = {}
    for newest in (True, False):
        for versions in pages.values():
            for content in versions:
                _search(content, pages, blocks, newest=newest)
    return dict(sorted(blocks.items()))


def _search(page: memoryview, pages: _Pages, blocks: dict[int, Block], *, newest: bool) -> None:
    """Add the blocks of a leaf that are not there yet."""
    if len(page) < _LEAF_HEADER_BYTES or page[0] != _LEAF:
        return
    cells = min(int.from_bytes(page[3:5]), PAGE_BYTES // 2)
    for place in range(_LEAF_HEADER_BYTES, _LEAF_HEADER_BYTES + 2 * cells, 2):
        try:
            size, at = _varint(page, int.from_bytes(page[place : place + 2]))
            number, at = _varint(page, at)
            if number not in blocks:
                record = _content(page, at, size, pages, newest=newest)
                blocks[number] = _decode(number, record)
        except (IndexError, DamagedBlockError):
            continue


def _content(page: memoryview, at: int, size: int, pages: _Pages, *, newest: bool) -> memoryview:
    """The bytes of a row: the local ones and those on the pages that continue it."""
    local = size
    if size > _MOST_LOCAL:
        local = _LEAST_LOCAL + (size - _LEAST_LOCAL) % (PAGE_BYTES - 4)
        local = local if local <= _MOST_LOCAL else _LEAST_LOCAL
    parts = [page[at : at + local]]
    missing = size - local
    following = int.from_bytes(page[at + local : at + local + 4])
    while missing > 0 and following in pages and len(parts) <= len(pages):
        overflow = pages[following][-1 if newest else 0]
        parts.append(overflow[4 : 4 + missing])
        missing -= PAGE_BYTES - 4
        following = int.from_bytes(overflow[:4])
    return memoryview(b"".join(parts))


def _decode(number: int, record: memoryview) -> Block:
    end, at = _varint(record, 0)
    columns: list[bytes] = []
    start = end
    while at < end and len(columns) < _COLUMNS:
        kind, at = _varint(record, at)
        size = (kind - 12) // 2 if kind >= 12 else _INTEGER_BYTES[kind]
        columns.append(bytes(record[start : start + size]))
        start += size
    if len(columns) < _COLUMNS:
        raise DamagedBlockError(f"block {number}: its row has columns missing")
    crc, header, payload = columns[4:]
    return decode_block(number, header, payload, int.from_bytes(crc))


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """SQLite's number of variable length, and where it ends."""
    value = 0
    for place in range(at, at + 8):
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return value, place + 1
    return value << 8 | data[at + 8], at + 9
