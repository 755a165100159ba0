"""Blocks as the server makes them, from what connections sent."""

from collections.abc import Sequence

from parser.block import Allowance, Block, Closed, Event, Opened, Started, chunk_table
from parser.framing import Chunk, Ending, Framer
from parser.parsed import ParsedBlock
from parser.settings import Rules
from storage.base import Cursor, DamagedBlock

NOON = 1_700_000_040_000
"""The beginning of a minute, in milliseconds."""

JOURNAL = "journal-a"
RULES = Rules()


class Machinery:
    """Makes the blocks of one node and journal: ids, numbers and stamps go on by themselves."""

    def __init__(self, *, node: int = 3, journal: str = JOURNAL, at: int = NOON, record: int = 0) -> None:
        self.node = node
        self.journal = journal
        self.at = at
        self.record = record
        self.stamp_us = at * 1000
        """Greater than that of every earlier block, as a server's clock makes it."""

        self.next_id = 1
        self.cursor: Cursor | None = None
        """Where a writer is that wrote every block made so far."""
        self._framers: dict[int, Framer] = {}

    def block(
        self,
        sent: Sequence[tuple[int, bytes]] = (),
        *,
        events: tuple[Event, ...] = (),
        ends: Sequence[tuple[int, Ending]] = (),
        later_ms: int = 20,
        allowed: tuple[Allowance, ...] | None = None,
    ) -> ParsedBlock:
        """One tick: (connection, bytes) as they came, then the ends of connections."""
        chunks: list[tuple[int, Chunk]] = []
        for connection, data in sent:
            framer = self._framers.setdefault(connection, Framer(RULES))
            chunks += [(connection, chunk) for chunk in framer.feed(data)]
        for connection, ending in ends:
            framer = self._framers.setdefault(connection, Framer(RULES))
            chunks += [(connection, chunk) for chunk in framer.end(ending)]
        table, payload = chunk_table(chunks)
        block = Block(
            self.next_id, self.node, self.record, self.stamp_us, RULES, events, table, payload, allowed
        )
        self._advance(block.id, block.next_record, later_ms)
        return ParsedBlock.of(block)

    def damaged(self, records: int, *, later_ms: int = 20) -> DamagedBlock:
        """One tick whose bytes the journal lost."""
        block = DamagedBlock(self.next_id, self.node, self.record, records, self.stamp_us)
        self._advance(block.id, self.record + records, later_ms)
        return block

    def _advance(self, block: int, record: int, later_ms: int) -> None:
        self.cursor = Cursor(self.journal, block)
        self.next_id = block + 1
        self.record = record
        self.at += later_ms
        self.stamp_us = max(self.at * 1000, self.stamp_us + 1)


def opened(connection: int, peer: str = "10.0.0.7:50123") -> Opened:
    """A connection that begins."""
    return Opened(connection, peer)


def closed(connection: int, sent: int = 0, why: str = "eof") -> Closed:
    """A connection that ends, having sent so many bytes."""
    return Closed(connection, why, sent)


STARTED = Started("0.1.0")


def record(device: str, *values: float) -> bytes:
    """A record on the wire; values that are not given are plausible ones."""
    given = (*values, *(35.2, 8000.0, 2.5, 3.7, 380.0)[len(values) :])
    return ",".join([device, *map(repr, given)]).encode() + b"#"
