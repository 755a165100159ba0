"""The books are checked against the rows themselves, and every missing row is found."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from parser.parsed import ParsedBlock
from storage.base import MINUTE_MS, DamagedBlock
from storage.reconcile import Reconciliation, reconcile
from storage.settings import RejectQuota
from storage.sqlite import purge
from storage.sqlite.books import SqliteBooks
from storage.sqlite.writer import SqliteTableWriter
from tests.storage.building import JOURNAL, NOON, Machinery, closed, opened, record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "headrace.db"


@pytest.fixture
def writer(path: Path, quota: RejectQuota) -> Iterator[SqliteTableWriter]:
    """A writer that has filled six minutes: 12 readings, 12 rejects, 4 empties and a bit more."""
    writer = SqliteTableWriter(path, quota)
    writer.claim(3, JOURNAL, adopt=False)
    writer.write(None, _minutes(Machinery(), 6), JOURNAL)
    yield writer
    writer.close()


def _minutes(machinery: Machinery, count: int) -> list[ParsedBlock | DamagedBlock]:
    blocks: list[ParsedBlock | DamagedBlock] = []
    for minute in range(count):
        sent = record("E0001") + record(f"F{minute}") + b"bad#" * 6 + b"#"
        events = (opened(minute + 1), closed(minute + 1, len(sent)))
        blocks.append(machinery.block([(minute + 1, sent)], events=events, later_ms=MINUTE_MS // 2))
        blocks.append(machinery.damaged(2, later_ms=MINUTE_MS // 2))
    return blocks


def _reconcile(path: Path, *, waiting: int | None = None) -> Reconciliation:
    books = SqliteBooks(path)
    try:
        return reconcile(books, waiting=waiting)
    finally:
        books.close()


def _tamper(path: Path, sql: str) -> None:
    connection = apsw.Connection(str(path))
    minutes = {f"minute_{number}": NOON + number * MINUTE_MS for number in range(6)}
    connection.execute(sql, minutes)
    assert connection.changes() == 1
    connection.close()


def test_a_table_that_is_whole_adds_up(path: Path, writer: SqliteTableWriter) -> None:
    """Rows are counted, and the totals are everything that was received."""
    assert writer
    found = _reconcile(path, waiting=5)
    assert found.findings == []
    assert (found.stored, found.readings) == (12, 12)
    assert (found.rejected, found.rejected_records, found.unkept) == (9, 9, 27)
    assert (found.empty, found.set_aside, found.received) == (6, 12, 12 + 36 + 6 + 12 + 5)


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (
            "DELETE FROM readings WHERE device_id = 'F2' AND received_at = :minute_2",
            "node 3, minute 2023-11-14T22:16Z: the ledger has 2 readings, the table 1",
        ),
        (
            "INSERT INTO readings VALUES ('F1', :minute_1, 3 << 53, 1, 2, 3, 4, 5)",
            "node 3, minute 2023-11-14T22:15Z: the ledger has 2 readings, the table 3",
        ),
        (
            "UPDATE readings SET received_at = 7 WHERE device_id = 'F0'",
            "node 3, minute 1970-01-01T00:00Z: the ledger has 0 readings, the table 1",
        ),
        (
            "DELETE FROM rejected_records WHERE seq = (SELECT min(seq) FROM rejected_records)",
            "node 3, minute 2023-11-14T22:14Z: the ledger has 4 rejected_records, the table 3",
        ),
        (
            "DELETE FROM ledger WHERE minute = :minute_1",
            "node 3, minute 2023-11-14T22:16Z: does not join the minute before it, after 10 comes 22",
        ),
        (
            "UPDATE ledger SET set_aside = 1 WHERE minute = :minute_0",
            "node 3, minute 2023-11-14T22:14Z: 11 numbers, 10 accounted for",
        ),
        (
            "UPDATE connections SET unkept = unkept - 1 WHERE connection = 4",
            "node 3: the ledger has 27 records unkept, its connections sum up to 26",
        ),
    ],
)
def test_what_does_not_add_up_is_found(
    path: Path, writer: SqliteTableWriter, damage: str, finding: str
) -> None:
    """One row too few or too many anywhere is named with its node and minute."""
    writer.close()
    _tamper(path, damage)
    assert finding in _reconcile(path).findings


def test_the_books_add_up_between_any_two_steps_of_a_purge(
    path: Path, writer: SqliteTableWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A purge that was interrupted anywhere leaves nothing that looks like a loss."""
    monkeypatch.setattr(purge, "_ROWS", 1)
    steps = 0
    while writer.purge(NOON + 4 * MINUTE_MS):
        steps += 1
        assert _reconcile(path).findings == []
    assert steps > 20
    assert _reconcile(path).readings == 4


def test_what_is_written_while_it_is_counted_is_no_finding(path: Path, writer: SqliteTableWriter) -> None:
    """Rows that came after the ledger was read are not counted against it."""

    class Meanwhile(SqliteBooks):
        def readings(self, node: int, since: int, last_seq: int) -> dict[int, int]:
            writer.write(machinery.cursor, _minutes(machinery, 1), JOURNAL)
            return dict(super().readings(node, since, last_seq))

    machinery = Machinery(at=NOON + 6 * MINUTE_MS - 1, record=6 * 11)
    claim = writer.claim(3, JOURNAL, adopt=False)
    assert claim.cursor is not None
    machinery.cursor, machinery.next_id = claim.cursor, claim.cursor.block + 1
    books = Meanwhile(path)
    found = reconcile(books, waiting=None)
    books.close()
    assert (found.findings, found.readings) == ([], 12)
    assert _reconcile(path).readings == 14
