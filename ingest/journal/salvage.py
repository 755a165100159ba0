"""Saving blocks out of a damaged segment, from its pages and without SQLite.

SQLite gives up a whole branch of its tree for one wrong bit, and all of its log behind one. Each block
carries a check of its own, so here nothing has to be believed: every page that looks like a leaf, in the
database and in any frame of the log, is searched for rows, and what passes its check is a block. A page that
the disk can't read is a damaged one like any other.

A segment only ever grows, and its log is written once from its beginning. So a page that continues a row
has one content for ever, and where several claim its number all but one are damage. The right one was written
with the row's leaf, by one commit; so a row whose commit is whole is found whatever is damaged around it. For
leaves whose commit is not whole the newest and the oldest are tried. What is read is bounded by the segment's
size, whatever the bits say.
The layout is that of https://www.sqlite.org/fileformat2.html, in its chapters 1.6, 2.1 and 4.1.
"""

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ingest.journal.segment import FRAME_BYTES, LOG_HEADER_BYTES, PAGE_BYTES, read_file, read_log
from parser.block import Block, DamagedBlockError, decode_block

_FRAME_HEADER: Final = struct.Struct(">II16x")
_LEAF: Final = 13
_LEAF_HEADER_BYTES: Final = 8
_MOST_LOCAL: Final = PAGE_BYTES - 35
_LEAST_LOCAL: Final = (PAGE_BYTES - 12) * 32 // 255 - 23
_INTEGER_BYTES: Final = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
_COLUMNS: Final = 7


class _Version(NamedTuple):
    """A content that a page has had."""

    frame: int
    """Where in the log; -1 is the database itself."""

    content: memoryview


_Pages = dict[int, list[_Version]]
"""Every version of a page, by its number, the oldest first."""

_Choose = Callable[[list[_Version]], memoryview]
"""Which version of a page continues a row."""


def frames(path: Path) -> Iterator[tuple[int, bool, memoryview]]:
    """The whole frames of a segment's log, right or wrong: page, whether it commits, content."""
    log = memoryview(read_log(path))
    for start in range(LOG_HEADER_BYTES, len(log) - FRAME_BYTES + 1, FRAME_BYTES):
        page, pages_after_commit = _FRAME_HEADER.unpack_from(log, start)
        yield page, bool(pages_after_commit), log[start + _FRAME_HEADER.size : start + FRAME_BYTES]


def salvage(path: Path, *, committed: bool = False) -> dict[int, Block]:
    """All blocks that are anywhere in a segment's files, by id, ascending.

    With `committed` not those of a commit that came to no end: it may have failed, and been made elsewhere.
    """
    pages: _Pages = {}
    log = list(frames(path))  # before the database, into which somebody may be copying it
    image = memoryview(read_file(path) if path.exists() else b"")
    for start in range(0, len(image) - PAGE_BYTES + 1, PAGE_BYTES):
        pages.setdefault(start // PAGE_BYTES + 1, []).append(_Version(-1, image[start : start + PAGE_BYTES]))
    commits = [frame for frame, (_, is_commit, _) in enumerate(log) if is_commit]
    whole = len(log) if not committed else commits[-1] + 1 if commits else 0
    for frame, (page, _, content) in enumerate(log[:whole]):
        pages.setdefault(page, []).append(_Version(frame, content))
    blocks: dict[int, Block] = {}
    for leaf in [version for versions in pages.values() for version in versions]:
        _search(leaf.content, pages, blocks, _written_with(leaf, commits))
        _search(leaf.content, pages, blocks, lambda versions: versions[-1].content)
        _search(leaf.content, pages, blocks, lambda versions: versions[0].content)
    return dict(sorted(blocks.items()))


def _written_with(leaf: _Version, commits: list[int]) -> _Choose:
    """What the leaf's commit wrote: behind the leaf up to the commit's mark, or else the last before."""
    mark = bisect_left(commits, leaf.frame)
    end = commits[mark] if mark < len(commits) else leaf.frame

    def choose(versions: list[_Version]) -> memoryview:
        behind = bisect_left(versions, leaf.frame, key=lambda version: version.frame)
        same_commit = behind < len(versions) and versions[behind].frame <= end
        return versions[behind if same_commit else max(behind - 1, 0)].content

    return choose


def _search(page: memoryview, pages: _Pages, blocks: dict[int, Block], choose: _Choose) -> None:
    """Add the blocks of a leaf that are not there yet."""
    if len(page) < _LEAF_HEADER_BYTES or page[0] != _LEAF:
        return
    cells = min(int.from_bytes(page[3:5]), PAGE_BYTES // 2)
    for place in range(_LEAF_HEADER_BYTES, _LEAF_HEADER_BYTES + 2 * cells, 2):
        try:
            size, at = _varint(page, int.from_bytes(page[place : place + 2]))
            number, at = _varint(page, at)
            if number not in blocks:
                record = _content(page, at, size, pages, choose)
                blocks[number] = _decode(number, record)
        except (IndexError, DamagedBlockError):
            continue


def _content(page: memoryview, at: int, size: int, pages: _Pages, choose: _Choose) -> memoryview:
    """The bytes of a row: the local ones and those on the pages that continue it."""
    local = size
    if size > _MOST_LOCAL:
        local = _LEAST_LOCAL + (size - _LEAST_LOCAL) % (PAGE_BYTES - 4)
        local = local if local <= _MOST_LOCAL else _LEAST_LOCAL
    parts = [page[at : at + local]]
    missing = size - local
    following = int.from_bytes(page[at + local : at + local + 4])
    while missing > 0 and following in pages and len(parts) <= len(pages):
        overflow = choose(pages[following])
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
