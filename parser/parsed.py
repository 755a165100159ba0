"""A block that was read: its columns, and who sent how much of what."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parser.block import Block, to_seq
from parser.columns import Columns, parse_columns
from parser.framing import Ending
from parser.senders import bind

TOGETHER_BYTES: Final = 1 << 19
"""A bad record makes all that is read with it slower."""

TALLY: Final = np.dtype(
    [
        ("connection", "<i8"),
        ("bytes", "<i8"),
        ("stored", "<i8"),
        ("rejected", "<i8"),
        ("empty", "<i8"),
        ("unterminated", "<i8"),
    ]
)
"""What one connection sent in a block; stored + rejected + empty are all its records."""


@dataclass(frozen=True)
class ParsedBlock:
    """A block and what its payload says. Shapes are given for n rows."""

    block: Block
    columns: Columns

    @classmethod
    def of(cls, block: Block) -> "ParsedBlock":
        """Read a block with the settings that it carries, and by whom it was sent."""
        return cls(block, bind(block, parse_columns(block.payload, block.rules, block.condemned)))

    @classmethod
    def of_all(cls, blocks: Sequence[Block]) -> "list[ParsedBlock]":
        """Read blocks, each with the settings that it carries.

        Neighbours with the same settings are read together, up to `TOGETHER_BYTES`: a small block by itself
        costs more than its records do.
        """
        found: list[ParsedBlock] = []
        waiting: list[Block] = []
        size = 0
        for block in blocks:
            if waiting and (block.rules != waiting[0].rules or size + len(block.payload) > TOGETHER_BYTES):
                found += _read_together(waiting)
                waiting, size = [], 0
            waiting.append(block)
            size += len(block.payload)
        return found + _read_together(waiting)

    @cached_property
    def seqs(self) -> NDArray[np.int64]:
        """Shape (n,): the number of each row, ascending."""
        return self.columns.index + np.int64(to_seq(self.block.node, self.block.first_record))

    @property
    def empty(self) -> int:
        """Records that were nothing but white space."""
        return self.block.records - len(self.columns.index) - len(self.columns.rejects)

    @cached_property
    def reject_chunks(self) -> NDArray[np.intp]:
        """Shape (rejects,): the chunk that each reject came in."""
        places = np.array([reject.index for reject in self.columns.rejects], dtype=np.int64)
        return np.searchsorted(self._chunk_ends, places, side="right")

    def connections_of(self, index: NDArray[np.int32]) -> list[int]:
        """The connection that each of these records, by their places in the block, came from."""
        chunks = np.searchsorted(self._chunk_ends, index, side="right")
        connections: list[int] = self.block.chunks["connection"][chunks].tolist()
        return connections

    def stream_offset(self, reject: int) -> int:
        """Where a reject (by its place among the rejects) begins in its connection's stream."""
        chunk = int(self.reject_chunks[reject])
        start = int(self.block.chunks["bytes"][:chunk].sum(dtype=np.int64))
        return int(self.block.chunks["offset"][chunk]) + self.columns.rejects[reject].offset - start

    @cached_property
    def tallies(self) -> NDArray[np.void]:
        """Rows of `TALLY`, one for each connection that sent something."""
        chunks = self.block.chunks
        stored = np.diff(np.searchsorted(self.columns.index, self._chunk_ends), prepend=0)
        rejected = np.bincount(self.reject_chunks, minlength=len(chunks))
        added = chunks["ending"] != Ending.DELIMITER
        connections, place = np.unique(chunks["connection"], return_inverse=True)
        tallies = np.zeros(len(connections), dtype=TALLY)
        tallies["connection"] = connections
        for name, counts in (
            ("bytes", chunks["bytes"].astype(np.int64) - added),
            ("stored", stored),
            ("rejected", rejected),
            ("empty", chunks["records"].astype(np.int64) - stored - rejected),
            ("unterminated", chunks["ending"] == Ending.CLEAN),
        ):
            np.add.at(tallies[name], place, counts)
        return tallies

    @cached_property
    def _chunk_ends(self) -> NDArray[np.int64]:
        """Shape (chunks,): the place in the block of the first record after each chunk."""
        return np.cumsum(self.block.chunks["records"], dtype=np.int64)


def _read_together(blocks: Sequence[Block]) -> list[ParsedBlock]:
    """Blocks with the same settings."""
    if len(blocks) <= 1:
        return list(map(ParsedBlock.of, blocks))
    firsts = np.cumsum([0, *(block.records for block in blocks)]).tolist()
    begins = np.cumsum([0, *(len(block.payload) for block in blocks)]).tolist()
    condemned = {
        first + place: reason
        for first, block in zip(firsts, blocks, strict=False)
        for place, reason in block.condemned.items()
    }
    columns = parse_columns(b"".join(block.payload for block in blocks), blocks[0].rules, condemned)
    parts = zip(blocks, pairwise(firsts), begins, strict=False)
    return [ParsedBlock(block, bind(block, columns.part(*records, begin))) for block, records, begin in parts]
