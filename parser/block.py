"""The block: what all connections delivered within one tick, and the unit of the way to the tables.

A block can be read without anything else: it carries its stamp, the settings to read it with, which
connection each chunk came from and how it ended, the openings and closings of connections, and, where
identities bind, which devices each connection may send for. It is written to the journal before anything
looks inside a record.

Records are numbered by counting delimiters. A block's records have consecutive numbers from
`first_record` on, in the order of its bytes, so the place of a record in the block is enough to know its
number. The number and the node make the record's `seq`:

    bit 63    62 .......... 53   52 ................. 0
        0     node (0 to 1023)   number of the record

Layout as stored: a MessagePack header, the chunk table inside it as the bytes of `CHUNKS` (little
endian), then the payload, under one CRC-32 together with the block's id.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from parser.framing import CUT_OFF, Chunk, Ending
from parser.settings import Rules
from parser.verdicts import Reason

RECORD_BITS: Final = 53
MAX_NODE: Final = 1023

CHUNKS: Final = np.dtype(
    [
        ("connection", "<i8"),
        ("offset", "<i8"),
        ("bytes", "<u4"),
        ("records", "<u4"),
        ("ending", "u1"),
    ]
)
"""One row per chunk: connection id, its place in that stream, its length, its records, `Ending`."""


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """A connection was accepted."""

    connection: int
    peer: str
    identity: str | None = None


class Closed(msgspec.Struct, frozen=True, tag="closed"):
    """A connection is over."""

    connection: int
    why: str
    bytes: int
    """All that it sent, also what was skipped."""


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The server began; connections still open before this were lost with the one before it."""

    version: str


Event = Opened | Closed | Started


class Allowance(msgspec.Struct, frozen=True, array_like=True):
    """Connections of one identity, and what it may send for: said once, however many they are."""

    connections: tuple[int, ...]
    devices: tuple[str, ...]


class DamagedBlockError(ValueError):
    """The stored bytes are not those that were written."""


class _Header(msgspec.Struct, frozen=True, array_like=True):
    node: int
    first_record: int
    stamp_us: int
    rules: Rules
    events: tuple[Event, ...]
    chunks: bytes
    allowed: tuple[Allowance, ...] | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Header)


@dataclass(frozen=True)
class Block:
    """One tick's bytes, in the order in which their records are numbered."""

    id: int
    """Consecutive in one journal, from 1."""

    node: int
    first_record: int
    stamp_us: int
    """When it was made, in microseconds since 1970 UTC; greater than every earlier block's."""

    rules: Rules
    events: tuple[Event, ...]
    chunks: NDArray[np.void]
    """Rows of `CHUNKS`, shape (chunks,)."""

    payload: bytes
    allowed: tuple[Allowance, ...] | None = None
    """Which devices its connections may send for; None where that isn't asked."""

    @cached_property
    def records(self) -> int:
        """How many numbers the block takes."""
        return int(self.chunks["records"].sum(dtype=np.int64))

    @property
    def next_record(self) -> int:
        """The number of the first record after this block."""
        return self.first_record + self.records

    @property
    def received_at(self) -> int:
        """The time its rows carry, in milliseconds since 1970 UTC."""
        return self.stamp_us // 1000

    def seq(self, index: int) -> int:
        """The row's number of the record at this place in the block."""
        return to_seq(self.node, self.first_record + index)

    @cached_property
    def condemned(self) -> dict[int, Reason]:
        """Records, by place in the block, that are rejects whatever they say."""
        last = np.cumsum(self.chunks["records"], dtype=np.int64) - 1
        endings = self.chunks["ending"]
        return {
            int(last[chunk]): _REASONS[Ending(int(endings[chunk]))]
            for chunk in np.flatnonzero(np.isin(endings, list(_REASONS)))
        }

    def encode(self) -> tuple[bytes, int]:
        """The header to store beside the payload, and the check over both."""
        stored = _Header(
            self.node,
            self.first_record,
            self.stamp_us,
            self.rules,
            self.events,
            self.chunks.tobytes(),
            self.allowed,
        )
        header = _encoder.encode(stored)
        return header, _check(self.id, header, self.payload)


_REASONS: Final = dict.fromkeys(CUT_OFF, Reason.TRUNCATED) | {Ending.OVERSIZE: Reason.OVERSIZE}


def to_seq(node: int, record: int) -> int:
    """The row's number: node in bits 53 to 62, record below."""
    return node << RECORD_BITS | record


def from_seq(seq: int) -> tuple[int, int]:
    """Node and record of a row's number."""
    return seq >> RECORD_BITS, seq & ((1 << RECORD_BITS) - 1)


def chunk_table(chunks: Sequence[tuple[int, Chunk]]) -> tuple[NDArray[np.void], bytes]:
    """The chunk table and the payload for (connection, chunk) pairs, in their order."""
    rows = [(conn, c.offset, len(c.data), c.records, c.ending) for conn, c in chunks]
    return np.array(rows, dtype=CHUNKS), b"".join([c.data for _, c in chunks])


def decode_block(block_id: int, header: bytes, payload: bytes, check: int) -> Block:
    """The block as it was encoded.

    Raises:
        DamagedBlockError: the check doesn't fit the bytes, or the header makes no sense.
    """
    if _check(block_id, header, payload) != check:
        raise DamagedBlockError(f"block {block_id}: its bytes do not fit its check sum")
    try:
        stored = _decoder.decode(header)
        chunks = np.frombuffer(stored.chunks, dtype=CHUNKS)
    except (msgspec.MsgspecError, ValueError) as error:
        raise DamagedBlockError(f"block {block_id}: header not readable: {error}") from error
    return Block(
        block_id,
        stored.node,
        stored.first_record,
        stored.stamp_us,
        stored.rules,
        stored.events,
        chunks,
        payload,
        stored.allowed,
    )


def _check(block_id: int, header: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(header, block_id & 0xFFFFFFFF))
