"""A node's claim and its cursor: the one place where writers are held apart, by compare-and-set.

All that decides lies in one partition of `nodes`: who owns the node, and for each journal how far its
rows are in the tables (`block`), and how far they are there for good (`durable_block`). With a commit log
that is synced every ten seconds a single node can forget what it has confirmed, so a cursor becomes
durable when it has stood for two such periods, no node was started anew meanwhile, and not all that have
confirmed it may be away. The nodes' generations are kept beside the cursor, so a restart is also noticed when
it happened while nobody wrote.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from cassandra import OperationTimedOut, WriteTimeout

from storage.base import Claim, Cursor
from storage.cassandra.connect import Connected, serial_consistency
from storage.cassandra.meaning import shown, translated
from storage.cassandra.replicas import replication_of
from storage.errors import (
    CursorMovedError,
    DatabaseRestartedError,
    NodeClaimedError,
    StoreSlowError,
    StoreUnavailableError,
)

_READ: Final = """SELECT journal, owner, next_record, generations, block, record, durable_block,
    durable_record FROM nodes WHERE node = ?"""
_TAKE: Final = "UPDATE nodes SET owner = ?, generations = ? WHERE node = ? IF owner = ?"
_GO_BACK: Final = """UPDATE nodes SET block = ?, record = ?, generations = ?
    WHERE node = ? AND journal = ? IF owner = ? AND block = ?"""
_MOVE: Final = """UPDATE nodes SET block = ?, record = ?, next_record = ?, durable_block = ?,
    durable_record = ?, generations = ? WHERE node = ? AND journal = ? IF owner = ? AND block = ?"""
_PERIOD: Final = (
    "SELECT name, value FROM system_views.settings WHERE name IN ('commitlog_sync', 'commitlog_sync_period')"
)

_USUAL_PERIOD_S: Final = 10.0
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_TRIES: Final = 3
_AWAKE_S: Final = 2.0
"""A node that says nothing for so long counts as away: a cursor that moves must not wait for it."""


class Place(NamedTuple):
    """A block and the number of the first record behind it."""

    block: int
    record: int


_NOWHERE: Final = Place(0, 0)


class _State(NamedTuple):
    """What a node's partition says of one journal."""

    owner: str | None
    next_record: int
    generations: dict[UUID, int]
    cursor: Place | None
    durable: Place


class _Key(NamedTuple):
    """Of a cursor in the tables."""

    node: int
    journal: str


class _Stood(NamedTuple):
    """A cursor, and since when it stands."""

    place: Place
    since: float


class Claims:
    """The claim of one node for one journal."""

    def __init__(self, connected: Connected, *, now: Callable[[], float] = time.monotonic) -> None:
        self._connected = connected
        self._now = now
        self._wait_s = 2 * sync_period_s(connected)
        self._copies = confirmed_copies(connected)
        self._node: int | None = None
        self._journal = ""
        self._next_record = 0
        self._generations: dict[UUID, int] = {}
        self._durable = _NOWHERE
        self._standing: deque[_Stood] = deque()

    @property
    def node(self) -> int:
        """The node that is claimed.

        Raises:
            NodeClaimedError: none is.
        """
        return self.require()

    def require(self) -> int:
        """The same, for who needs no more than that one is claimed."""
        if self._node is None:
            raise NodeClaimedError(f"{shown(self._connected.settings)}: no node was claimed")
        return self._node

    def claim(self, node: int, journal: str, *, adopt: bool, to_write: bool = True) -> Claim:
        """Take the node; where one of the cluster started anew, the cursor goes back to what is durable.

        That is noted once, so it is not for who only looks.
        """
        state = self._read(node, journal)
        if state.owner not in (None, journal) and not adopt:
            raise NodeClaimedError(
                f"{shown(self._connected.settings)}: node {node} belongs to journal {state.owner}, not to"
                f" {journal}; give this server another ingest.node_id, or adopt the node if that journal is"
                " lost"
            )
        found = self._connected.generations()
        generations = state.generations | found if to_write else state.generations
        if state.owner != journal:
            self._take(node, journal, generations, state.owner)
        reached = state.cursor or _NOWHERE
        cursor = state.cursor
        if cursor is not None and to_write and restarted(state.generations, found):
            cursor = state.durable
            self._change(_GO_BACK, cursor, [generations], _Key(node, journal), reached.block)
        self._node, self._journal, self._next_record = node, journal, state.next_record
        self._generations, self._durable = generations, state.durable
        self._standing.clear()
        if cursor is not None:
            self._standing.append(_Stood(cursor, self._now()))
        return Claim(
            None if cursor is None or not cursor.block else Cursor(journal, cursor.block),
            state.next_record,
            None if cursor is None or not cursor.block else cursor.record,
            reached.block,
        )

    def _take(self, node: int, journal: str, generations: dict[UUID, int], owner: str | None) -> None:
        """Become the owner; an earlier try may have gone through, although nobody heard of it."""
        taken = compare_and_set(self._connected, _TAKE, journal, generations, node, owner)
        if not taken and self._read(node, journal).owner != journal:
            raise NodeClaimedError(
                f"{shown(self._connected.settings)}: node {node} is being claimed by another"
            )

    def check(self, cursor: Cursor | None, journal: str) -> None:
        """See that the node is ours and its cursor where the writer thinks."""
        state = self._read(self.node, journal)
        name = shown(self._connected.settings)
        if state.owner != journal:
            raise NodeClaimedError(
                f"{name}: node {self.node} belongs to journal {state.owner}, not {journal}"
            )
        found = state.cursor.block if state.cursor is not None else 0
        if found != (cursor.block if cursor is not None else 0):
            raise CursorMovedError(f"{name}: node {self.node} is at block {found}, not at {cursor}")

    def move(self, cursor: Cursor | None, place: Place) -> None:
        """Move the cursor from there to here, when all rows up to here were confirmed.

        Raises:
            DatabaseRestartedError: a node may have forgotten some of them.
            CursorMovedError: somebody else has moved it.
        """
        self._advance_durable()
        next_record = max(self._next_record, place.record)
        before = None if cursor is None else cursor.block
        if before is None and self._read(self.node, self._journal).cursor is not None:
            before = 0
        values = [next_record, *self._durable, self._generations]
        self._change(_MOVE, place, values, _Key(self.node, self._journal), before)
        self._next_record = next_record
        self._standing.append(_Stood(place, self._now()))

    def durable(self) -> int:
        """The block up to which everything is there for good; may rise with time alone."""
        if self._standing and self._standing[0].since + self._wait_s <= self._now():
            self._advance_durable()
        return self._durable.block

    def _advance_durable(self) -> None:
        """Raise what is durable; not while all nodes that have it may be away: they may come back without."""
        missing = self._missing()
        while self._standing and self._standing[0].since + self._wait_s <= self._now():
            if missing >= self._copies:
                return
            self._durable = max(self._durable, self._standing.popleft().place)

    def _missing(self) -> int:
        """How many nodes of our datacenter are away; those that are here were not started anew.

        Raises:
            DatabaseRestartedError: one was.
        """
        found = self._connected.generations(within_s=_AWAKE_S)
        if restarted(self._generations, found):
            raise DatabaseRestartedError(
                f"{shown(self._connected.settings)}: a node started anew; what it may have forgotten"
                " is written again"
            )
        self._generations |= found
        return len(self._connected.members() - found.keys())

    def _read(self, node: int, journal: str) -> _State:
        statement = self._connected.bound(_READ, node)
        statement.consistency_level = serial_consistency(self._connected.settings)
        with translated(self._connected.settings):
            rows = list(self._connected.session.execute(statement))
        owner, next_record, generations = rows[0][1:4] if rows else (None, None, None)
        places = next((row[4:] for row in rows if row[0] == journal and row[4] is not None), None)
        return _State(
            owner,
            next_record or 0,
            dict(generations or {}),
            None if places is None else Place(places[0], places[1]),
            _NOWHERE if places is None or places[2] is None else Place(places[2], places[3]),
        )

    def _change(self, cql: str, place: Place, values: Sequence[Any], key: _Key, before: int | None) -> None:
        """Bring the cursor from that block to this place, with what else is to be set."""
        node, journal = key
        if compare_and_set(self._connected, cql, *place, *values, node, journal, journal, before):
            return
        state = self._read(node, journal)
        if state.owner != journal:
            raise NodeClaimedError(
                f"{shown(self._connected.settings)}: node {node} belongs to journal {state.owner}"
            )
        if state.cursor is None or state.cursor.block != place.block:
            raise CursorMovedError(
                f"{shown(self._connected.settings)}: somebody moved the cursor to {state.cursor}"
            )
        # an earlier try went through, although nobody heard of it


def compare_and_set(connected: Connected, cql: str, *values: Any) -> bool:
    """Whether a conditional update was applied, as far as is known."""
    for _ in range(_TRIES):
        try:
            with translated(connected.settings):
                row = connected.session.execute(connected.bound(cql, *values)).one()
        except (StoreUnavailableError, StoreSlowError) as error:
            if not isinstance(error.__cause__, WriteTimeout | OperationTimedOut):
                raise
            continue  # it may have been applied: then the next try is not, and the caller looks
        return bool(row[0])
    raise StoreUnavailableError(f"{shown(connected.settings)}: compare-and-set finds no majority")


def restarted(known: dict[UUID, int], found: dict[UUID, int]) -> bool:
    """Whether a node of these was started since it was known."""
    return any(known.get(host, generation) != generation for host, generation in found.items())


def sync_period_s(connected: Connected) -> float:
    """How long the cluster may keep a confirmed write in memory only."""
    try:
        found = dict(connected.execute(_PERIOD))
    except Exception:  # noqa: BLE001  # whoever may not look waits for the usual time
        return _USUAL_PERIOD_S
    if found.get("commitlog_sync") != "periodic":
        return 0.0
    return as_seconds(str(found.get("commitlog_sync_period")))


def as_seconds(period: str) -> float:
    """A period as Cassandra shows it: a number and its unit; the usual one where it is anything else."""
    parts = re.fullmatch(r"(\d+)(ms|s|m|h|d)", period)
    return _USUAL_PERIOD_S if parts is None else int(parts[1]) * _UNITS_S[parts[2]]


def confirmed_copies(connected: Connected) -> int:
    """On how many nodes of our datacenter a row is when it was confirmed, at the least."""
    return copies_of(replication_of(connected), connected.datacenter, connected.settings.consistency)


def copies_of(replication: Mapping[str, str], datacenter: str, level: str) -> int:
    """The same, by how the keyspace is replicated and what is asked for."""
    copies = {name: int(str(count)) for name, count in replication.items() if name != "class"}
    local = copies.get(datacenter, copies.get("replication_factor", 1))
    if level == "ALL":
        return local
    if level == "QUORUM":
        elsewhere = sum(copies.values()) - local
        return max(1, sum(copies.values()) // 2 + 1 - elsewhere)
    return local // 2 + 1 if level.endswith("QUORUM") else 1
