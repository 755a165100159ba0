"""Do the books add up? Rows are counted and compared with what the ledger says became of the records.

For each node, and within what was not purged yet:

- the rows of `readings` and of `rejected_records` are as many in each minute as the ledger says;
- the numbers from a minute's first to its last are all accounted for;
- each minute begins behind the number that the one before it ended with;
- the connections' counters sum up to the ledger's.

The tables may be written, purged and corrected meanwhile. The ledger is read first, then only rows are
counted that it can know; a minute that seems wrong is looked at again in one transaction before it is
called wrong.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple, Protocol

import msgspec

from parser.block import from_seq
from storage.base import LedgerMinute


class Sums(NamedTuple):
    """What became of records, summed up."""

    stored: int
    rejected: int
    unkept: int
    empty: int


class NodeBooks(msgspec.Struct, frozen=True):
    """What the books of one node say at one moment."""

    node: int
    ledger: list[LedgerMinute]
    """By minute."""

    connections: Sums
    """Of all connections, purged ones included, less what the ledger's purged minutes held."""

    purged_before: int
    """Minutes before this one may be purged in part."""

    purged_last_seq: int | None
    """The last number of the ledger's purged minutes."""


class MinuteBooks(NamedTuple):
    """One minute of a node, all read at one moment."""

    ledger: LedgerMinute | None
    readings: int
    rejects: int


class Books(Protocol):
    """The tables, as far as they can be counted. Every call is a short transaction or several."""

    def nodes(self) -> list[NodeBooks]:
        """The books of every node."""
        ...

    def readings(self, node: int, since: int, last_seq: int) -> Mapping[int, int]:
        """Rows of `readings` by minute, of what the node received since then, with seq <= last_seq."""
        ...

    def rejects(self, node: int, since: int, last_seq: int) -> Mapping[int, int]:
        """Rows of `rejected_records`, counted likewise."""
        ...

    def minute(self, node: int, minute: int) -> MinuteBooks | None:
        """All about one minute; None if it may be purged in part."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


class Reconciliation(msgspec.Struct, frozen=True):
    """The outcome: totals over what was not purged, and what does not add up."""

    stored: int
    rejected: int
    unkept: int
    empty: int
    set_aside: int
    waiting: int | None
    """Records that are in the journal and in no table yet; None if nobody looked."""

    readings: int
    """Rows counted in `readings`."""

    rejected_records: int
    """Rows counted in `rejected_records`."""

    findings: list[str]
    """What is wrong, each in one line; empty if everything adds up."""

    @property
    def received(self) -> int:
        """All records that were committed to the journal, as far as they are known here."""
        tables = self.stored + self.rejected + self.unkept + self.empty + self.set_aside
        return tables + (self.waiting or 0)


def reconcile(books: Books, *, waiting: int | None) -> Reconciliation:
    """Count, compare, and say what is wrong.

    `waiting` is how many records the journal holds that no table has yet.
    """
    findings: list[str] = []
    ledger: list[LedgerMinute] = []
    rows = rejects = 0
    for node in books.nodes():
        found_rows, found_rejects = _count(books, node)
        findings += _rows_differ(books, node, found_rows, found_rejects)
        findings += _numbers_missing(node)
        findings += _sums_differ(node)
        ledger += node.ledger
        rows += sum(found_rows.values())
        rejects += sum(found_rejects.values())
    return Reconciliation(
        stored=sum(minute.stored for minute in ledger),
        rejected=sum(minute.rejected for minute in ledger),
        unkept=sum(minute.unkept for minute in ledger),
        empty=sum(minute.empty for minute in ledger),
        set_aside=sum(minute.set_aside for minute in ledger),
        waiting=waiting,
        readings=rows,
        rejected_records=rejects,
        findings=findings,
    )


def _count(books: Books, node: NodeBooks) -> tuple[Mapping[int, int], Mapping[int, int]]:
    last_seq = max((minute.last_seq for minute in node.ledger), default=-1)
    return (
        books.readings(node.node, node.purged_before, last_seq),
        books.rejects(node.node, node.purged_before, last_seq),
    )


def _rows_differ(
    books: Books, node: NodeBooks, rows: Mapping[int, int], rejects: Mapping[int, int]
) -> Iterator[str]:
    expected = {
        minute.minute: (minute.stored, minute.rejected)
        for minute in node.ledger
        if minute.minute >= node.purged_before
    }
    for minute in sorted(expected.keys() | rows.keys() | rejects.keys()):
        if expected.get(minute, (0, 0)) != (rows.get(minute, 0), rejects.get(minute, 0)):
            yield from _look_again(books, node.node, minute)


def _look_again(books: Books, node: int, minute: int) -> Iterator[str]:
    found = books.minute(node, minute)
    if found is None:
        return
    stored, rejected = (found.ledger.stored, found.ledger.rejected) if found.ledger else (0, 0)
    for table, expected, rows in (
        ("readings", stored, found.readings),
        ("rejected_records", rejected, found.rejects),
    ):
        if expected != rows:
            yield f"{_at(node, minute)}: the ledger has {expected} {table}, the table {rows}"


def _numbers_missing(node: NodeBooks) -> Iterator[str]:
    for minute in node.ledger:
        numbers = minute.last_seq - minute.first_seq + 1
        if minute.accounted != numbers:
            yield f"{_at(node.node, minute.minute)}: {numbers} numbers, {minute.accounted} accounted for"
    ends = [(minute.minute, minute.first_seq, minute.last_seq) for minute in node.ledger]
    if ends and node.purged_last_seq is not None:
        ends.insert(0, (0, 0, node.purged_last_seq))
    for (_, _, last), (begins, first, _) in pairwise(ends):
        if first != last + 1:
            jump = f"after {from_seq(last)[1]} comes {from_seq(first)[1]}"
            yield f"{_at(node.node, begins)}: does not join the minute before it, {jump}"


def _sums_differ(node: NodeBooks) -> Iterator[str]:
    for place, name in enumerate(Sums._fields):
        ledger = sum(getattr(minute, name) for minute in node.ledger)
        if ledger != node.connections[place]:
            yield (
                f"node {node.node}: the ledger has {ledger} records {name},"
                f" its connections sum up to {node.connections[place]}"
            )


def _at(node: int, minute: int) -> str:
    return f"node {node}, minute {datetime.fromtimestamp(minute / 1000, UTC):%Y-%m-%dT%H:%MZ}"
