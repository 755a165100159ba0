"""Framing: whole records out of whatever pieces TCP delivers, without looking inside them.

A framer belongs to one connection. It finds the last delimiter in what arrived, counts the delimiters,
hands the whole records on as one chunk and carries the rest, which is never longer than one record may
be. Bytes go in, chunks come out; there is no socket and no clock here.

Every chunk is whole: its bytes hold exactly as many delimiters as it has records. What follows the last
delimiter when a stream ends is given the delimiter it lacks, and the chunk's ending says how it came.
White space before a record makes it no longer: where there is more than a record may have, it is passed over.

    ...#E0001,35.2,80        carried; nothing handed on but what ends with #
    00,2.5,3.7,380#          handed on together with what was carried
    (600 bytes without #)    one chunk OVERSIZE with the first 512; the rest is skipped to the next #
    E0001,35.2 (connection reset)  one chunk RESET, a reject
"""

from enum import IntEnum
from typing import NamedTuple

from parser.settings import Rules


class Ending(IntEnum):
    """How the last record of a chunk came to its end."""

    DELIMITER = 0
    """By its delimiter."""

    CLEAN = 1
    """By a clean close: it is a record if it is complete."""

    STRICT = 2
    """By a clean close, where the configuration wants a delimiter behind each record."""

    RESET = 3
    """By a connection that broke."""

    TIMEOUT = 4
    """By a deadline of ours."""

    SHUTDOWN = 5
    """By the end of the server."""

    OVERSIZE = 6
    """By the limit of a record's length; the stream goes on behind its delimiter."""


CUT_OFF = frozenset({Ending.STRICT, Ending.RESET, Ending.TIMEOUT, Ending.SHUTDOWN})
"""Endings that leave a record truncated: there may be more of it than was read."""


class Chunk(NamedTuple):
    """Whole records of one connection, as they came."""

    data: bytes
    records: int
    """How many delimiters `data` holds; the last byte is one."""

    offset: int
    """Where `data` begins in the connection's stream, in bytes."""

    ending: Ending


class Framer:
    """The framing of one connection's stream."""

    __slots__ = ("_delimiter", "_limit", "_passed_over", "_passing", "_skipping", "_start", "_tail", "_white")

    def __init__(self, rules: Rules) -> None:
        self._delimiter = rules.delimiter
        self._limit = rules.max_record_bytes
        self._white = rules.around_records
        self._tail = b""
        self._start = 0
        self._passed_over = 0
        self._passing = False
        self._skipping = False

    @property
    def received(self) -> int:
        """Bytes fed so far; while an over-long record is skipped, those skipped included."""
        return self._start + len(self._tail)

    @property
    def handed_on(self) -> int:
        """Bytes of whole records, bad ones included; 0 until the first one has come."""
        return self._start - self._passed_over

    @property
    def unfinished(self) -> bool:
        """Whether a record was begun whose delimiter is awaited; white space begins none."""
        return bool(self._tail.strip(self._white))

    def pass_whole(self, data: bytes) -> int:
        """Where `data` begins in the stream if it is whole records and nothing is carried; else -1.

        The short way for small packets: such data is a chunk as it is, and needs no `feed`.
        """
        if self._tail or self._skipping or self._passing or not data.endswith(self._delimiter):
            return -1
        start = self._start
        self._start = start + len(data)
        return start

    def feed(self, data: bytes) -> list[Chunk]:
        """Take what arrived and hand on the chunks that are whole by now."""
        if self._skipping:
            data = self._skip(data)
        elif self._passing:
            data = self._pass_over_white(data)
        cut = data.rfind(self._delimiter) + 1
        chunks: list[Chunk] = []
        if cut:
            whole = self._tail + data[:cut] if self._tail else data[:cut]
            records = whole.count(self._delimiter)
            chunks.append(Chunk(whole, records, self._start, Ending.DELIMITER))
            self._start += len(whole)
            self._tail = data[cut:]
        else:
            self._tail += data
        if len(self._tail) > self._limit:
            self._tail = self._pass_over_white(self._tail)
        if len(self._tail) > self._limit:
            chunks.append(self._give_up())
        return chunks

    def end(self, ending: Ending) -> list[Chunk]:
        """Hand on what is left when the stream is over; white space alone is nothing."""
        tail, self._tail = self._tail, b""
        start, self._start = self._start, self._start + len(tail)
        if not tail.strip(self._white):
            return []
        return [Chunk(tail + self._delimiter, 1, start, ending)]

    def _pass_over_white(self, data: bytes) -> bytes:
        begun = data.lstrip(self._white)
        self._passing = not begun
        self._start += len(data) - len(begun)
        self._passed_over += len(data) - len(begun)
        return begun

    def _give_up(self) -> Chunk:
        tail, self._tail = self._tail, b""
        chunk = Chunk(tail[: self._limit] + self._delimiter, 1, self._start, Ending.OVERSIZE)
        self._start += len(tail)
        self._skipping = True
        return chunk

    def _skip(self, data: bytes) -> bytes:
        behind = data.find(self._delimiter) + 1
        self._skipping = not behind
        skipped = behind or len(data)
        self._start += skipped
        return data[skipped:]
