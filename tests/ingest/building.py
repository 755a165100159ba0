"""Blocks to submit, journals to submit them to, and a way to wait that never depends on speed."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

from ingest.journal import Journal, JournalReader
from ingest.journal.ahead import Ahead, log_bytes_for
from ingest.settings import MIB, JournalSettings
from parser.block import Block, chunk_table
from parser.framing import Chunk, Ending
from parser.settings import Rules
from storage.base import DamagedBlock

NODE: Final = 3
RULES: Final = Rules()
DEADLINE_S: Final = 30.0
SMALLEST: Final = 16 * MIB
"""The smallest journal; its segments are a sixteenth of it."""


def block(number: int, *, first: int = 0, records: int = 1, size: int = 1000, stamp: int = 0) -> Block:
    """A block with bytes of its own, no two alike, and as many records as it says."""
    body = random.Random(number).randbytes(max(size - records, 0))  # noqa: S311  # only has to differ
    data = body.replace(b"#", b"+") + b"#" * records
    table, payload = chunk_table([(1, Chunk(data, records, 0, Ending.DELIMITER))])
    return Block(number, NODE, first, stamp or number, RULES, (), table, payload)


def chain(count: int, *, after: Block | None = None, records: int = 3, size: int = 1000) -> list[Block]:
    """Blocks that follow each other, behind `after`."""
    blocks: list[Block] = []
    for _ in range(count):
        last = blocks[-1] if blocks else after
        number, first = (last.id + 1, last.next_record) if last else (1, 0)
        stamp = (last.stamp_us if last else 1_700_000_000_000_000) + 20_000
        blocks.append(block(number, first=first, records=records, size=size, stamp=stamp))
    return blocks


def same(left: Sequence[Block | DamagedBlock], right: Sequence[Block]) -> bool:
    """Whether these are the same blocks, byte for byte."""
    return [b.id for b in left] == [b.id for b in right] and all(
        isinstance(a, Block) and a.encode() == b.encode() and a.payload == b.payload
        for a, b in zip(left, right, strict=True)
    )


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that another thread or process does.

    Raises:
        AssertionError: it never came; `what` says what it was.
    """
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.002)


def write_ahead(folder: Path, *, max_bytes: int = SMALLEST) -> int:
    """Make the files of a journal's first segment, which has otherwise none made ahead; its log's length."""
    log_bytes = log_bytes_for(max_bytes // 16)
    ahead = Ahead(folder, log_bytes, vfs=None)
    ahead.make()
    while ahead.write_log():
        pass
    return log_bytes


def read_all(folder: Path, after: int = 0) -> list[Block | DamagedBlock]:
    """Everything that a journal holds behind a block, as a sink gets it that begins there."""
    reader = JournalReader(folder)
    found: list[Block | DamagedBlock] = []
    after = max(after, (reader.first_block() or 1) - 1)
    try:
        while more := reader.read(after, MIB):
            found += more
            after = more[-1].id
    finally:
        reader.close()
    return found


class Desk:
    """A started journal, and what it said so far."""

    def __init__(
        self,
        folder: Path,
        *,
        keep_hours: float = 0.0,
        max_bytes: int = SMALLEST,
        node: int = NODE,
        vfs: str | None = None,
    ) -> None:
        settings = JournalSettings(path=str(folder), max_bytes=max_bytes, keep_hours=keep_hours)
        self.folder = folder
        self.journal = Journal(settings, node, vfs=vfs)
        self.committed: list[Block] = []
        self.groups: list[int] = []
        """How many blocks each commit had."""
        self.changes = threading.Event()
        self._durable: bool | None = None
        self.journal.start(on_commit=self._on_commit, on_change=self.changes.set)

    def _on_commit(self, blocks: Sequence[Block], seconds: float) -> None:
        assert seconds >= 0
        self.groups.append(len(blocks))
        self.committed += blocks

    def submit(self, blocks: Sequence[Block]) -> None:
        """Queue blocks."""
        for each in blocks:
            self.journal.submit(each)

    def commit(self, blocks: Sequence[Block]) -> None:
        """Queue blocks and wait until the last of them is durable."""
        self.submit(blocks)
        until(lambda: self.committed and self.committed[-1].id >= blocks[-1].id, "the commit")

    def hold(self) -> threading.Condition:
        """Within this the committer takes nothing."""
        assert self.journal._committer is not None
        return self.journal._committer._wake

    def segments(self) -> list[str]:
        """The names of the segments that are there."""
        return sorted(path.name for path in self.folder.glob("[0-9]*.db"))

    def close(self) -> bool:
        """Let go of the journal, once; whether all was durable."""
        if self._durable is None:
            self._durable = self.journal.close()
        return self._durable

    def __enter__(self) -> Self:
        """Use it for a while."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()
