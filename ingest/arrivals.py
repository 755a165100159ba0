"""What has arrived since the last tick: pieces of whole records, and how they become a chunk table.

This is the path of every packet, so a packet costs three appends to lists, and the rest is done for all
packets of a tick at once with arrays: the pieces of one connection are brought together (their order kept)
and become one chunk, unless an ending stands between them, or white space that was passed over.
"""

from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from parser.block import CHUNKS
from parser.framing import Chunk, Ending

if TYPE_CHECKING:
    from ingest.connection import Connection

_id_of: Final = attrgetter("id")


class Gathered(NamedTuple):
    """The pieces of a tick, as a block wants them."""

    chunks: NDArray[np.void]
    """Rows of `parser.block.CHUNKS`."""

    payload: bytes
    senders: "list[Connection]"
    """The connection of each chunk."""


class Arrivals:
    """Pieces in the order in which they came; the three lists belong together, place by place."""

    __slots__ = ("_delimiter", "_endings", "offsets", "pieces", "senders")

    def __init__(self, delimiter: bytes) -> None:
        self._delimiter = delimiter[0]
        self._endings: dict[int, Ending] = {}
        self.pieces: list[bytes] = []
        self.senders: list[Connection] = []
        self.offsets: list[int] = []

    def add(self, sender: "Connection", chunk: Chunk) -> None:
        """Add a piece that was framed, with its ending."""
        if chunk.ending is not Ending.DELIMITER:
            self._endings[len(self.pieces)] = chunk.ending
        self.pieces.append(chunk.data)
        self.senders.append(sender)
        self.offsets.append(chunk.offset)

    def take(self) -> Gathered:
        """Everything so far; the lists are empty afterwards, and still the same lists."""
        pieces, senders, offsets = self.pieces[:], self.senders[:], self.offsets[:]
        ids = np.fromiter(map(_id_of, senders), np.int64, len(senders))
        endings = np.zeros(len(pieces), np.uint8)
        for place, ending in self._endings.items():
            endings[place] = ending
        self._endings.clear()
        self.pieces.clear()
        self.senders.clear()
        self.offsets.clear()
        order = np.argsort(ids, kind="stable")
        payload = b"".join([pieces[place] for place in order.tolist()])
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))[order]
        starts = np.array(offsets, np.int64)[order]
        last = _last_of_chunks(ids[order], endings[order], starts, lengths)
        first = np.concatenate([last[:0], [0], last[:-1] + 1])[: len(last)]
        table = np.zeros(len(last), CHUNKS)
        ends = np.cumsum(lengths)[last]
        marks = np.flatnonzero(np.frombuffer(payload, np.uint8) == self._delimiter)
        table["connection"] = ids[order[last]]
        table["offset"] = starts[first]
        table["bytes"] = np.diff(ends, prepend=0)
        table["records"] = np.diff(np.searchsorted(marks, ends), prepend=0)
        table["ending"] = endings[order[last]]
        return Gathered(table, payload, [senders[place] for place in order[last].tolist()])


def _last_of_chunks(
    ids: NDArray[np.int64],
    endings: NDArray[np.uint8],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> NDArray[np.intp]:
    """The places where a chunk ends: before another connection, behind an ending, and where bytes lack."""
    ends = np.ones(len(ids), np.bool_)
    ends[:-1] = (ids[1:] != ids[:-1]) | (endings[:-1] != Ending.DELIMITER)
    ends[:-1] |= starts[1:] != starts[:-1] + lengths[:-1]
    return np.flatnonzero(ends)
