"""Which rejects are kept with their bytes, and the statements that write them.

As in every store, how many may still be kept is read from the tables: of a minute and of a connection by
its rows in `rejected_records` with numbers below the block's. A block that is written again keeps what it
kept the first time; only where rows were lost since, it is decided anew, and nearly always alike. How
many there are in all is counted in `ledger`, by the day and again only after `recount_s`: a table that is
full by a minute's worth more fills no disk. A day that is over changes only when somebody accepts rejects or
purges, so of these a few are counted again each time, in turn.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from parser.block import to_seq
from parser.parsed import ParsedBlock
from storage.base import minute_of
from storage.cassandra.books import CassandraAccounts
from storage.cassandra.connect import Connected
from storage.cassandra.days import days_of, nodes_of
from storage.cassandra.lots import lots
from storage.cassandra.schema import DAY_MS, day_of, expiring
from storage.cassandra.times import to_ms
from storage.settings import RejectQuota

_KEPT: Final = """SELECT seq, connection, received_at FROM rejected_records
    WHERE node = ? AND day = ? AND seq >= ? AND seq < ?"""
INSERT: Final = """INSERT INTO rejected_records (node, day, seq, received_at, connection, peer, reason,
    field, device_id, place, raw) VALUES (?,?,?,?,?,?,?,?,?,?,?) USING TIMESTAMP ?"""
_ACCEPTED: Final = "SELECT accepted FROM ledger WHERE node = ? AND day = ? AND minute = ?"
_PURGED: Final = "SELECT before FROM purged WHERE node = ?"
_IN_MINUTES: Final = "SELECT minute, rejected, accepted FROM ledger WHERE node = ? AND day = ?"

_AT_ONCE: Final = 64
_IN_TURN: Final = 16
"""Days that are counted together, and that are counted again each time."""

_Day = tuple[int, int]
"""A node and one of its days."""


class CassandraRejects:
    """Chooses and writes the rejects of one node's blocks."""

    def __init__(self, connected: Connected, node: int, quota: RejectQuota, recount_s: float) -> None:
        self._connected = connected
        self._node = node
        self._quota = quota
        self._recount_s = recount_s
        self._of_days: dict[_Day, int] = {}
        self._own: dict[int, dict[int, int]] = {}
        """Of our node's newest days, by day and minute."""

        self._turn = 0
        self._counted = float("-inf")
        self._horizon: int | None = None
        self._of_minute: dict[int, Counter[int]] = {}
        self._ttl: int | None = None

    def begin(self, ttl: int | None) -> None:
        """Begin a write; its rejects live for so many seconds, or for ever where that is 0 or None."""
        self._of_minute.clear()
        self._ttl = ttl

    def forget(self) -> None:
        """Know nothing of the running minute any more."""
        self._of_minute.clear()
        self._horizon = None

    def keep(self, parsed: ParsedBlock, accounts: CassandraAccounts) -> list[int]:
        """The places of those rejects of a block that are kept."""
        if not parsed.columns.rejects:
            return []
        kept_already = self._kept_already(parsed, accounts)
        if kept_already is not None:
            return kept_already
        minute = minute_of(parsed.block.received_at)
        if minute < self._purged_before():
            return []  # written again, and purged since
        kept_before = self._kept_before(parsed, accounts)
        room = min(
            self._quota.per_minute - kept_before.total(),
            self._quota.rows - self._rows_before(minute) - kept_before.total(),
        )
        kept: list[int] = []
        for place, connection in enumerate(connections_of(parsed)):
            if len(kept) >= room:
                break
            if kept_before[connection] < self._quota.per_connection:
                kept_before[connection] += 1
                kept.append(place)
        self._own_day(day_of(minute))[minute] = kept_before.total()
        return kept

    def statements(self, parsed: ParsedBlock, kept: list[int], accounts: CassandraAccounts) -> Iterator[Any]:
        """The rows of those that are kept."""
        block, rejects, connections = parsed.block, parsed.columns.rejects, connections_of(parsed)
        cql, ttl = expiring(INSERT, self._ttl)
        for place in kept:
            verdict = rejects[place].verdict
            yield self._connected.put(
                cql,
                self._node,
                day_of(block.received_at),
                block.seq(rejects[place].index),
                block.received_at,
                connections[place],
                accounts.peer(connections[place]),
                verdict.reason.value,
                verdict.field,
                verdict.device_id,
                parsed.stream_offset(place),
                rejects[place].raw,
                block.stamp_us,
                *ttl,
            )

    def _kept_before(self, parsed: ParsedBlock, accounts: CassandraAccounts) -> Counter[int]:
        """Rejects of each connection that were kept in the block's minute before it."""
        block, minute = parsed.block, minute_of(parsed.block.received_at)
        if minute not in self._of_minute:
            first = accounts.first_seq(block)
            asked = self._connected.bound(_KEPT, self._node, day_of(minute), first, block.seq(0))
            (rows,) = self._connected.ask([asked])
            found = Counter(connection for _, connection, at in rows if minute_of(to_ms(at)) == minute)
            self._of_minute[minute] = found
        return self._of_minute[minute]

    def _kept_already(self, parsed: ParsedBlock, accounts: CassandraAccounts) -> list[int] | None:
        """What was kept of a block that the ledger counts already; None if that can't be told any more.

        It can where all rejects that the ledger counts in that minute are there, or were accepted since.
        """
        block, minute = parsed.block, minute_of(parsed.block.received_at)
        counted = accounts.rejected_if_counted(block)
        if counted is None:
            return None
        first, end = accounts.first_seq(block), to_seq(block.node + 1, 0)
        of_minute = (self._node, day_of(minute))
        rows, accepted = self._connected.ask(
            [
                self._connected.bound(_KEPT, *of_minute, first, end),
                self._connected.bound(_ACCEPTED, *of_minute, minute),
            ]
        )
        known = {seq for seq, _, at in rows if minute_of(to_ms(at)) == minute}
        known |= {seq for (seqs,) in accepted for seq in seqs or ()}
        if len(known) != counted:
            return None
        rejects = parsed.columns.rejects
        return [place for place, reject in enumerate(rejects) if block.seq(reject.index) in known]

    def _purged_before(self) -> int:
        if self._horizon is None:
            (rows,) = self._connected.ask([self._connected.bound(_PURGED, self._node)])
            self._horizon = to_ms(rows[0][0]) if rows else 0
        return self._horizon

    def _rows_before(self, minute: int) -> int:
        """Rejects in the table, nearly: those of other nodes, and ours of minutes before this one."""
        if time.monotonic() >= self._counted + self._recount_s:
            self._count()
        day = day_of(minute)
        whole = sum(rows for (node, of), rows in self._of_days.items() if node != self._node or of < day)
        return whole + sum(rows for own, rows in self._own_day(day).items() if own < minute)

    def _own_day(self, day: int) -> dict[int, int]:
        """Ours of a day, by the minute."""
        if day not in self._own:
            self._count_days([(self._node, day)])
        return self._own[day]

    def _count(self) -> None:
        """Count what is in the table: the days that may have changed, and some of the others."""
        nodes = nodes_of(self._connected)
        days = days_of(self._connected, *nodes)
        places = [(node, day) for node, its_days in zip(nodes, days, strict=True) for day in its_days]
        newest = dict(sorted(places))
        changing = [(node, day) for node, day in places if day >= newest[node] - DAY_MS]
        new = [place for place in places if place not in self._of_days]
        self._of_days = {place: self._of_days[place] for place in places if place in self._of_days}
        self._own.clear()
        self._count_days({*new, *changing, *self._next_of(places)})
        self._counted = time.monotonic()

    def _next_of(self, places: list[_Day]) -> list[_Day]:
        """Those whose turn it is."""
        begin = self._turn if self._turn < len(places) else 0
        self._turn = begin + _IN_TURN
        return places[begin : self._turn]

    def _count_days(self, places: Iterable[_Day]) -> None:
        for some in lots(places, _AT_ONCE):
            found = self._connected.ask([self._connected.bound(_IN_MINUTES, *place) for place in some])
            for (node, day), rows in zip(some, found, strict=True):
                minutes = {
                    to_ms(minute): (rejected or 0) - len(accepted or ())
                    for minute, rejected, accepted in rows
                }
                self._of_days[node, day] = sum(minutes.values())
                if node == self._node:
                    ours = {
                        own: known.total() for own, known in self._of_minute.items() if day_of(own) == day
                    }
                    self._own[day] = minutes | ours


def connections_of(parsed: ParsedBlock) -> list[int]:
    """The connection that each reject of the block came from."""
    connections: list[int] = parsed.block.chunks["connection"][parsed.reject_chunks].tolist()
    return connections
