"""The copy, in order: take the nodes, the readings pass by pass, all the rest, hand the nodes over."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from parser.block import from_seq
from storage.cassandra.books import connection_day
from storage.cassandra.connect import Connected
from storage.cassandra.schema import day_of
from storage.cassandra.tables import check_tables, create_tables
from storage.copying.holding import Holding, block_of
from storage.copying.marks import Mark, Marks
from storage.copying.source import PAGE_ROWS, Source, SourceNode, SourceState
from storage.copying.target import Target
from storage.errors import NodeClaimedError, StorageError, StoreBusyError
from storage.settings import StorageSettings

SETTLING = "commit log"
"""What is waited for at the end, named like a table."""


class Step(NamedTuple):
    """How far the copy has come."""

    table: str
    done: int
    total: int


Tell = Callable[[Step], None]


class Copied(msgspec.Struct, frozen=True):
    """What a copy has done."""

    rows: dict[str, int]
    """Rows copied, by table; of `readings` those of earlier runs too that were interrupted."""

    already: bool
    """There was nothing to do."""


def copy_tables(
    storage: StorageSettings,
    journal: str,
    tell: Tell,
    *,
    page_rows: int = PAGE_ROWS,
    wait_s: float | None = None,
) -> Copied:
    """Copy everything from the embedded database to the cluster, going on where an earlier run was ended.

    The caller holds the lock of this journal, so that its server does not run. `wait_s` is how long the
    cluster can forget what it has confirmed; without it, it is asked.

    Raises:
        NodeClaimedError: the source is another journal's, or a node in the target is.
        CursorMovedError: a server has written to the target already.
        StorageError: source or target failed; run it again.
    """
    with (
        closing(Source(Path(storage.sqlite.path), page_rows)) as source,
        closing(_open(storage)) as connected,
    ):
        marks = Marks(connected, journal, wait_s=wait_s)
        target = Target(connected, storage.keep_days)
        return _Copy(source, target, marks, Holding(connected), tell).run(journal)


def _open(storage: StorageSettings) -> Connected:
    connected = Connected(storage.cassandra)
    try:
        create_tables(connected, storage.keep_days)
        check_tables(connected)
    except BaseException:
        connected.close()
        raise
    return connected


class _Copy:
    """One run."""

    def __init__(self, source: Source, target: Target, marks: Marks, holding: Holding, tell: Tell) -> None:
        self._source = source
        self._target = target
        self._marks = marks
        self._holding = holding
        self._tell = tell
        self._rows: dict[str, int] = {}
        self._totals: dict[str, int] = {}

    def run(self, journal: str) -> Copied:
        state = self._source.state()
        self._see_journal(state, journal)
        mark = self._take(state)
        already = mark.done and mark.fingerprint == state.fingerprint
        if not already:
            mark = self._readings(state, mark)
            self._others(state, mark)
            self._settle(state, mark)
        for node in state.nodes:
            self._holding.hand_over(node)
        return Copied(self._rows, already)

    def _see_journal(self, state: SourceState, journal: str) -> None:
        """See that the lock which is held is the one that keeps the source's server away."""
        found = [node.journal for node in state.nodes]
        if not found:
            raise StorageError(
                f"{self._source.path}: no server has written to it yet, so there is nothing to copy"
            )
        if journal not in found:
            raise NodeClaimedError(
                f"{self._source.path}: was written from journal {', '.join(found)}, not from {journal};"
                " set [journal] path to where that one is"
            )

    def _take(self, state: SourceState) -> Mark:
        """Make the nodes ours; the mark to go on from."""
        known = self._marks.load()
        if not any(self._holding.look(node.node).owner for node in state.nodes):
            known = None  # the tables were emptied since
        if known is not None and known.done and known.fingerprint == state.fingerprint:
            return known
        handed_over = known.blocks if known is not None else {}
        for node in state.nodes:
            self._holding.take(node, handed_over.get(node.node))
        return known or self._begin_pass(state, None)

    def _begin_pass(self, state: SourceState, before: Mark | None) -> Mark:
        """A pass over what was received since the one before it, or over everything."""
        stored = self._source.stored_before(state.until)
        mark = Mark(fingerprint=state.fingerprint, until=state.until, stored=stored)
        if before is not None:
            only_new = self._source.stored_before(before.until) == before.stored
            since = before.until if only_new else 0
            mark = msgspec.structs.replace(mark, number=before.number + 1, since=since)
        self._marks.save(mark)
        return mark

    def _readings(self, state: SourceState, mark: Mark) -> Mark:
        """Copy readings until the target has all that the source has now."""
        if not mark.done:
            mark = self._pass(state, mark)
        if mark.fingerprint != state.fingerprint:
            if not mark.done:
                self._marks.settle(mark)
            mark = self._pass(state, self._begin_pass(state, mark))
        return mark

    def _pass(self, state: SourceState, mark: Mark) -> Mark:
        """Copy what this pass has not copied yet; pages are read ahead."""
        self._target.begin(state, mark.number)
        since = max(mark.since, self._target.before)
        total = self._source.stored_since(since)
        pages = self._source.readings(since, mark.place)
        with ThreadPoolExecutor(1, "read-ahead") as helper:
            ahead = helper.submit(next, pages, None)
            while (page := ahead.result()) is not None:
                ahead = helper.submit(next, pages, None)
                self._target.readings(page.rows)
                rows = mark.rows + len(page.rows.seqs)
                mark = msgspec.structs.replace(mark, place=page.last, rows=rows)
                self._marks.reached(mark)
                self._tell(Step("readings", rows, max(rows, total)))
        self._rows["readings"] = mark.rows
        return mark

    def _others(self, state: SourceState, mark: Mark) -> None:
        """Copy all the other tables, which are small: from their beginning in every run."""
        for readings in self._source.latest():
            self._target.latest(readings)
            self._count("latest_readings", len(readings))
        days = self._rejects(state, mark)
        for node in state.nodes:
            days[node.node] |= self._books(node)
            self._target.days(node.node, days[node.node])
            self._target.purged(node)
        self._target.purge()

    def _rejects(self, state: SourceState, mark: Mark) -> dict[int, set[int]]:
        """Copy the rejects; the days that each node has some of."""
        seqs: set[int] = set()
        days: dict[int, set[int]] = {node.node: set() for node in state.nodes}
        for page in self._source.rejects():
            self._target.rejects(page)
            for row in page:
                seqs.add(row.seq)
                days[from_seq(row.seq)[0]].add(day_of(row.received_at))
            self._count("rejected_records", len(page))
        if mark.number:
            for node in state.nodes:
                self._target.forget_rejects(node.node, seqs)
        return days

    def _books(self, node: SourceNode) -> set[int]:
        """Copy a node's connections and ledger; the days that have some of them."""
        days: set[int] = set()
        for connections in self._source.connections(node.node):
            self._target.connections(node, connections)
            days.update(connection_day(row.connection) for row in connections)
            self._count("connections", len(connections))
        for minutes in self._source.ledger(node.node):
            self._target.ledger(node, minutes)
            days.update(day_of(row.minute) for row in minutes)
            self._count("ledger", len(minutes))
        return days

    def _settle(self, state: SourceState, mark: Mark) -> None:
        """See that the source is as it was, and that the cluster can't forget anything any more."""
        if self._source.state().fingerprint != state.fingerprint:
            raise StoreBusyError(
                f"{self._source.path}: was written to while it was copied; stop whatever writes to it"
            )
        self._tell(Step(SETTLING, 0, 1))
        blocks = {node.node: block_of(node) for node in state.nodes}
        self._marks.settle(msgspec.structs.replace(mark, done=True, blocks=blocks))

    def _count(self, table: str, rows: int) -> None:
        if table not in self._totals:
            self._totals[table] = self._source.count(table)
        self._rows[table] = done = self._rows.get(table, 0) + rows
        self._tell(Step(table, done, max(done, self._totals[table])))
