"""The contract of a store: what is in the tables, who writes it and who reads it.

A store earns its place by passing the conformance suite in tests/storage and by agreeing with the
reference in `storage.memory`. Times are milliseconds since 1970 UTC, stamps microseconds. A row's number
(`seq`) holds the node and the record's number, see `parser.block`.

Writing is synchronous and happens in a process or thread of the sink's own. Reading is asynchronous and
never blocks the loop. Both are short transactions.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from parser.parsed import ParsedBlock
from parser.verdicts import Accepted

MINUTE_MS: Final = 60_000
AHEAD_MS: Final = 3_600_000
"""By stamps that are further ahead of the database's clock nothing is deleted: others have rows there."""

SERVER_LOST: Final = "server_lost"
"""Why a connection was closed that the next server found open."""

UNKNOWN_PEER: Final = "unknown"
"""The peer of a connection whose opening was in a damaged block."""


def minute_of(received_at: int) -> int:
    """The beginning of the minute that holds this time."""
    return received_at - received_at % MINUTE_MS


class Reading(msgspec.Struct, frozen=True):
    """A row of `readings` or `latest_readings`."""

    device_id: str
    received_at: int
    seq: int
    spindle_temperature_c: float
    spindle_speed_rpm: float
    coolant_flow_lpm: float
    power_kw: float
    voltage_v: float


class Rejected(msgspec.Struct, frozen=True):
    """A row of `rejected_records`."""

    seq: int
    received_at: int
    connection: int
    peer: str
    reason: str
    field: str | None
    device_id: str | None
    """Whose record it seems to be, where that can be read."""

    place: int
    """Where it begins in its connection's stream, in bytes."""

    raw: bytes


class Connection(msgspec.Struct, frozen=True):
    """A row of `connections`."""

    node: int
    connection: int
    opened_at: int
    closed_at: int | None
    why: str | None
    peer: str
    identity: str | None
    bytes: int
    stored: int
    rejected: int
    unkept: int
    empty: int
    unterminated: int


class LedgerMinute(msgspec.Struct, frozen=True):
    """A row of `ledger`: what became of the records that one node received in one minute."""

    node: int
    minute: int
    """Its beginning."""

    first_seq: int
    last_seq: int
    stored: int
    rejected: int
    unkept: int
    empty: int
    set_aside: int

    @property
    def accounted(self) -> int:
        """All records that something became of; last_seq - first_seq + 1 if nothing is missing."""
        return self.stored + self.rejected + self.unkept + self.empty + self.set_aside


class Cursor(msgspec.Struct, frozen=True):
    """How far a sink has come: everything up to this block of this journal is in its tables."""

    journal: str
    block: int


class Claim(msgspec.Struct, frozen=True):
    """What a store knows about a node when the node is claimed for a journal."""

    cursor: Cursor | None
    """Where the node's writer stands in that journal; None where it never wrote from it."""

    next_record: int
    """Above every record number of the node that the tables know; 0 for a new node."""

    cursor_record: int | None = None
    """The number of the first record behind the cursor; None where there is no cursor."""

    reached: int = 0
    """The block that the writer had come to, where the database may have forgotten some of what came
    behind the cursor: the blocks from the cursor to there are written again, as far as they still exist."""


class Position(NamedTuple):
    """A place in a device's history, for paging."""

    received_at: int
    seq: int


class DamagedBlock(NamedTuple):
    """A block that the journal had and can't give; its records are set aside, not lost silently."""

    id: int
    node: int
    first_record: int
    records: int
    stamp_us: int


class Written(msgspec.Struct, frozen=True):
    """What one call to `write` did."""

    stored: int
    rejected: dict[str, int]
    """By reason; those that were not kept included."""

    unkept: int
    empty: int
    set_aside: int


class Requests(msgspec.Struct, frozen=True):
    """What a writer asked of its database since the last look; zeros for an embedded one."""

    confirmed: int = 0
    repeated: int = 0
    """Sent again, as they failed or nobody knows what became of them."""

    refused: int = 0
    limit: int = 0
    """How many may be under way at the moment."""


class TableWriter(Protocol):
    """The writing side of a store, for one node."""

    def claim(self, node: int, journal: str, *, adopt: bool, to_write: bool = True) -> Claim:
        """Take the node for a journal.

        Without `to_write` nothing goes on from the cursor: where the database may have forgotten rows behind
        it, it is left to the next claim to go back.

        Raises:
            NodeClaimedError: the node belongs to another journal, and `adopt` is false.
        """
        ...

    def write(
        self, cursor: Cursor | None, blocks: Sequence[ParsedBlock | DamagedBlock], journal: str
    ) -> Written:
        """Make all of it durable, in one step, and move the cursor from `cursor` to the last block.

        The blocks' ids ascend from behind the cursor; what is missing between them is the caller's care.

        Raises:
            CursorMovedError: the node's cursor is not at `cursor`; nothing was written.
            NodeClaimedError: the node was not claimed, or for another journal since; nothing was written.
            StorageError: nothing was written; `retriable` says whether to try the same again.
        """
        ...

    def durable(self) -> int:
        """The block up to which no crash of the database can take anything back.

        The journal keeps what is behind it. It may rise without a write.

        Raises:
            DatabaseRestartedError: the database may have forgotten some of what was written behind it.
        """
        ...

    def requests(self) -> Requests:
        """What was asked of the database since the last call."""
        ...

    def clock(self) -> int:
        """What time it is where the tables are, in milliseconds."""
        ...

    def purge(self, before: int) -> int:
        """Delete a small step of what is older than this time, taken down to its minute.

        What is left of it in ledger and connections are their sums, so that the books still add up.

        Returns:
            How much was done, in rows or, where a deletion hits many, in deletions; 0 when nothing is left.
        """
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


class ReadingStore(Protocol):
    """The reading side of a store."""

    async def latest(self, device_id: str) -> Reading | None:
        """The newest reading of a device, by (received_at, seq)."""
        ...

    async def devices(self, *, after: str | None = None, limit: int) -> list[Reading]:
        """The newest reading of each device, ordered by device_id, beginning behind `after`."""
        ...

    async def history(
        self,
        device_id: str,
        start: int,
        end: int,
        *,
        limit: int,
        before: Position | None = None,
    ) -> list[Reading]:
        """Readings with start <= received_at < end, newest first, beginning behind `before`."""
        ...

    async def rejects(
        self,
        *,
        device_id: str | None = None,
        connection: int | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[Rejected]:
        """Rejected records with seq < before, newest first, all or of one device or connection."""
        ...

    async def connections(self, *, before: int | None = None, limit: int) -> list[Connection]:
        """Connections with id < before, the newest first."""
        ...

    async def ledger(self, start: int, end: int) -> list[LedgerMinute]:
        """Minutes that begin in start <= minute < end, by node and minute."""
        ...

    async def close(self) -> None:
        """Let go of the database."""
        ...


class Quarantine(Protocol):
    """The rejects of a store, for judging them again with changed settings."""

    def page(self, after: int, limit: int) -> list[Rejected]:
        """Rejected records with seq > after that may be judged again, the oldest first."""
        ...

    def accept(self, rejected: Rejected, record: Accepted) -> bool:
        """Move a reject to the readings, under its own seq and time; False if it is there no more.

        Ledger and connection are corrected in the same step.
        """
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...
