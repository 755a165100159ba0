"""What a write adds to `ledger` and `connections`, so that adding it again changes nothing.

A row holds sums and `next_record`: it counts what was numbered below. A row is read when it is touched
first and kept while it can still change (the running minute, open connections); what a block adds is
added only where the row does not count the block yet. So blocks can be written again from any earlier
place, together with others than the first time, after a row was lost or while it was not, and the sums
come out the same.

Every row goes with the stamp of the block that changed it last as write timestamp: a sink that survived
its server and writes late changes nothing. Who is opened is written only when that changes, so its write
timestamp tells the order of openings against the starts of servers.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Final, cast

from parser.block import Block, Closed, Opened, Started, to_seq
from parser.parsed import ParsedBlock
from storage.base import SERVER_LOST, UNKNOWN_PEER, DamagedBlock, minute_of
from storage.cassandra.connect import Connected
from storage.cassandra.days import days_of
from storage.cassandra.schema import day_of
from storage.cassandra.times import to_ms, to_ms_or_none

_LEDGER_SUMS: Final = ("stored", "rejected", "unkept", "empty", "set_aside")
_TALLIED: Final = ("bytes", "stored", "rejected", "unkept", "empty", "unterminated")

_READ_MINUTE: Final = """SELECT first_seq, last_seq, stored, rejected, unkept, empty, set_aside,
    next_record FROM ledger WHERE node = ? AND day = ? AND minute = ?"""
PUT_MINUTE: Final = """UPDATE ledger USING TIMESTAMP ? SET first_seq = ?, last_seq = ?, stored = ?,
    rejected = ?, unkept = ?, empty = ?, set_aside = ?, next_record = ?
    WHERE node = ? AND day = ? AND minute = ?"""
_READ_CONNECTION: Final = """SELECT opened_at, closed_at, why, peer, identity, bytes, stored, rejected,
    unkept, empty, unterminated, next_record, writetime(opened_at)
    FROM connections WHERE node = ? AND day = ? AND connection = ?"""
_READ_OPEN: Final = """SELECT connection, closed_at FROM connections WHERE node = ? AND day = ?"""
PUT_OPENING: Final = """UPDATE connections USING TIMESTAMP ? SET opened_at = ?, peer = ?, identity = ?
    WHERE node = ? AND day = ? AND connection = ?"""
PUT_CLOSING: Final = """UPDATE connections USING TIMESTAMP ? SET closed_at = ?, why = ?
    WHERE node = ? AND day = ? AND connection = ?"""
PUT_SUMS: Final = """UPDATE connections USING TIMESTAMP ? SET bytes = ?, stored = ?, rejected = ?,
    unkept = ?, empty = ?, unterminated = ?, next_record = ? WHERE node = ? AND day = ? AND connection = ?"""


def connection_day(connection: int) -> int:
    """The day whose partition has a connection: its number is the stamp of its opening."""
    return day_of(connection // 1000)


@dataclass(slots=True)
class _Minute:
    """A row of `ledger`."""

    first_seq: int
    last_seq: int
    stored: int = 0
    rejected: int = 0
    unkept: int = 0
    empty: int = 0
    set_aside: int = 0
    next_record: int = 0


@dataclass(slots=True)
class _Connection:
    """A row of `connections`."""

    opened_at: int
    closed_at: int | None = None
    why: str | None = None
    peer: str = UNKNOWN_PEER
    identity: str | None = None
    bytes: int = 0
    stored: int = 0
    rejected: int = 0
    unkept: int = 0
    empty: int = 0
    unterminated: int = 0
    next_record: int = 0
    opened_us: int = 0
    """The stamp of the block that said so."""


@dataclass(slots=True)
class _Changed:
    """What one write has to put, with the stamp of the last change."""

    minutes: dict[int, int] = field(default_factory=dict)
    openings: dict[int, int] = field(default_factory=dict)
    closings: dict[int, int] = field(default_factory=dict)
    sums: dict[int, int] = field(default_factory=dict)


class CassandraAccounts:
    """The books of one node, for as long as its writer lives."""

    def __init__(self, connected: Connected, node: int) -> None:
        self._connected = connected
        self._node = node
        self._minutes: dict[int, _Minute | None] = {}
        self._connections: dict[int, _Connection | None] = {}
        self._changed = _Changed()

    def load(self, blocks: Iterable[ParsedBlock | DamagedBlock]) -> None:
        """Read the rows that these blocks can change and that are not known yet."""
        minutes: set[int] = set()
        connections: set[int] = set()
        for item in blocks:
            if isinstance(item, DamagedBlock):
                minutes.add(minute_of(item.stamp_us // 1000))
                continue
            minutes.add(minute_of(item.block.received_at))
            connections.update(item.tallies["connection"].tolist())
            for event in item.block.events:
                if isinstance(event, Started):
                    connections.update(self._left_open())
                else:
                    connections.add(event.connection)
        self._load_minutes(sorted(minutes - self._minutes.keys()))
        self._load_connections(sorted(connections - self._connections.keys()))

    def peer(self, connection: int) -> str:
        """Who is at the other end, as far as it is known."""
        row = self._connections.get(connection)
        return UNKNOWN_PEER if row is None else row.peer

    def first_seq(self, block: Block) -> int:
        """The first number of the block's minute."""
        row = self._minutes.get(minute_of(block.received_at))
        return block.seq(0) if row is None else min(row.first_seq, block.seq(0))

    def rejected_if_counted(self, block: Block) -> int | None:
        """How many rejects the block's minute has, if the ledger counts the block already."""
        row = self._minutes.get(minute_of(block.received_at))
        return row.rejected if row is not None and block.first_record < row.next_record else None

    def begin(self, parsed: ParsedBlock) -> None:
        """Note who came and went with the block, so that its rejects know their peers."""
        block = parsed.block
        for event in block.events:
            if isinstance(event, Started):
                self._lose_open(block)
            elif isinstance(event, Opened):
                self._open(event, block)
        for connection in parsed.tallies["connection"].tolist():
            self._row(connection, block)
        for event in block.events:
            if isinstance(event, Closed):
                row = self._row(event.connection, block)
                row.closed_at, row.why = block.received_at, event.why
                self._changed.closings[event.connection] = block.stamp_us

    def finish(self, parsed: ParsedBlock, kept: dict[int, int], set_aside: dict[int, int]) -> None:
        """Count the block's records; of each connection so many rejects kept and rows set aside."""
        block, tallies = parsed.block, parsed.tallies
        names = cast(tuple[str, ...], tallies.dtype.names)
        aside, rejects = sum(set_aside.values()), len(parsed.columns.rejects)
        stored, rejected = len(parsed.columns.index) - aside, sum(kept.values())
        self._count(block, (stored, rejected, rejects - rejected, parsed.empty, aside))
        for tally in tallies.tolist():
            sums = dict(zip(names, tally, strict=True))
            connection = sums["connection"]
            keeps = kept.get(connection, 0)
            sums |= {"rejected": keeps, "unkept": sums["rejected"] - keeps}
            sums["stored"] -= set_aside.get(connection, 0)
            self._add(connection, block, sums)
        for event in block.events:
            if isinstance(event, Closed):
                self._row(event.connection, block).bytes = event.bytes
                self._changed.sums[event.connection] = block.stamp_us

    def set_aside(self, block: DamagedBlock) -> None:
        """Count the records of a block that can't be read."""
        self._count(block, (0, 0, 0, 0, block.records))

    def statements(self) -> Iterator[Any]:
        """Everything that has changed since the last call."""
        changed, self._changed = self._changed, _Changed()
        for minute, stamp in changed.minutes.items():
            row = cast(_Minute, self._minutes[minute])
            yield self._put(PUT_MINUTE, stamp, _values(row), day_of(minute), minute)
        for statement, of, names in (
            (PUT_OPENING, changed.openings, ("opened_at", "peer", "identity")),
            (PUT_CLOSING, changed.closings, ("closed_at", "why")),
            (PUT_SUMS, changed.sums, (*_TALLIED, "next_record")),
        ):
            for connection, stamp in of.items():
                values = [getattr(self._connections[connection], name) for name in names]
                yield self._put(statement, stamp, values, connection_day(connection), connection)
        self._forget()

    def days(self, blocks: Iterable[ParsedBlock | DamagedBlock]) -> set[int]:
        """The days of all rows that these blocks can make."""
        found: set[int] = set()
        for item in blocks:
            block = item.block if isinstance(item, ParsedBlock) else item
            found.add(day_of(block.stamp_us // 1000))
            if isinstance(item, ParsedBlock):
                found.update(map(connection_day, item.tallies["connection"].tolist()))
                found.update(
                    connection_day(event.connection)
                    for event in item.block.events
                    if not isinstance(event, Started)
                )
        return found

    def forget_all(self) -> None:
        """Know nothing any more: rows were deleted, or a write was given up half way."""
        self._minutes.clear()
        self._connections.clear()
        self._changed = _Changed()

    def _forget(self) -> None:
        """What can't change any more, or is read again cheaply."""
        newest = max(self._minutes, default=0)
        self._minutes = {minute: row for minute, row in self._minutes.items() if minute == newest}
        self._connections = {
            number: row
            for number, row in self._connections.items()
            if row is not None and row.closed_at is None
        }

    def _put(self, cql: str, stamp: int, values: list[Any], day: int, key: int) -> Any:
        return self._connected.put(cql, stamp, *values, self._node, day, key)

    def _load_minutes(self, minutes: list[int]) -> None:
        asked = [
            self._connected.bound(_READ_MINUTE, self._node, day_of(minute), minute) for minute in minutes
        ]
        for minute, rows in zip(minutes, self._connected.ask(asked), strict=True):
            found = rows and rows[0][-1] is not None
            self._minutes[minute] = _Minute(*(value or 0 for value in rows[0])) if found else None

    def _load_connections(self, connections: list[int]) -> None:
        asked = [
            self._connected.bound(_READ_CONNECTION, self._node, connection_day(number), number)
            for number in connections
        ]
        for number, rows in zip(connections, self._connected.ask(asked), strict=True):
            self._connections[number] = _connection(rows[0]) if rows and rows[0][0] is not None else None

    def _left_open(self) -> list[int]:
        """All connections of the node without an end; a day at a time, as there may be millions with one."""
        found: list[int] = []
        (days,) = days_of(self._connected, self._node)
        for day in days:
            (rows,) = self._connected.ask([self._connected.bound(_READ_OPEN, self._node, day)])
            found += [number for number, closed_at in rows if closed_at is None]
        return found

    def _lose_open(self, block: Block) -> None:
        """Close what a server before this one has left open."""
        for number, row in self._connections.items():
            if row is not None and row.closed_at is None and row.opened_us < block.stamp_us:
                row.closed_at, row.why = block.received_at, SERVER_LOST
                self._changed.closings[number] = block.stamp_us

    def _open(self, event: Opened, block: Block) -> None:
        row = self._row(event.connection, block)
        row.opened_at, row.peer, row.identity = block.received_at, event.peer, event.identity
        row.opened_us = self._changed.openings[event.connection] = block.stamp_us

    def _row(self, connection: int, block: Block) -> _Connection:
        """The connection's row; a new one where its opening was in a damaged block."""
        row = self._connections.get(connection)
        if row is None:
            row = _Connection(block.received_at, opened_us=block.stamp_us)
            self._connections[connection] = row
            self._changed.openings[connection] = block.stamp_us
        return row

    def _add(self, connection: int, block: Block, sums: dict[str, int]) -> None:
        row = self._row(connection, block)
        if block.first_record < row.next_record or not block.records:
            return
        for name in _TALLIED:
            setattr(row, name, getattr(row, name) + sums[name])
        row.next_record = block.next_record
        self._changed.sums[connection] = block.stamp_us

    def _count(self, block: Block | DamagedBlock, counts: tuple[int, ...]) -> None:
        if not block.records:
            return
        minute = minute_of(block.stamp_us // 1000)
        first, end = block.first_record, block.first_record + block.records
        row = self._minutes.get(minute)
        if row is None:
            row = self._minutes[minute] = _Minute(to_seq(block.node, first), to_seq(block.node, end - 1))
        if first < row.next_record:
            return
        row.first_seq = min(row.first_seq, to_seq(block.node, first))
        row.last_seq = max(row.last_seq, to_seq(block.node, end - 1))
        for name, count in zip(_LEDGER_SUMS, counts, strict=True):
            setattr(row, name, getattr(row, name) + count)
        row.next_record = end
        self._changed.minutes[minute] = block.stamp_us


def _values(row: _Minute) -> list[Any]:
    return [getattr(row, part.name) for part in fields(row)]


def _connection(values: tuple[Any, ...]) -> _Connection:
    opened_at, closed_at, why, peer, identity, *sums, next_record, opened_us = values
    row = _Connection(to_ms(opened_at), to_ms_or_none(closed_at), why, peer, identity)
    for name, number in zip(_TALLIED, sums, strict=True):
        setattr(row, name, number or 0)
    row.next_record, row.opened_us = next_record or 0, opened_us
    return row
