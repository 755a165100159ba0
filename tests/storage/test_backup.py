"""A backup is taken while the tables are written, and is whole."""

import stat
from pathlib import Path

import apsw
import pytest

from storage.errors import SchemaError, StorageError, StoreUnavailableError
from storage.reconcile import reconcile
from storage.sqlite import backup as backup_module
from storage.sqlite.backup import backup
from storage.sqlite.books import SqliteBooks
from storage.sqlite.writer import SqliteTableWriter
from tests.storage.building import JOURNAL, Machinery, opened, record


@pytest.fixture
def machinery() -> Machinery:
    return Machinery()


@pytest.fixture
def path(tmp_path: Path, machinery: Machinery) -> Path:
    """A database with 2000 rows."""
    path = tmp_path / "headrace.db"
    writer = SqliteTableWriter(path)
    writer.claim(machinery.node, JOURNAL, adopt=False)
    block = machinery.block([(1, record("E0001") * 2_000)], events=(opened(1),))
    writer.write(None, [block], JOURNAL)
    writer.close()
    return path


def test_a_backup_made_while_rows_are_written_is_the_tables_at_one_moment(
    path: Path, machinery: Machinery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step is followed by a write, and still the copy ends and its books add up."""
    monkeypatch.setattr(backup_module, "_STEP_PAGES", 5)
    writer = SqliteTableWriter(path)
    writer.claim(machinery.node, JOURNAL, adopt=False)
    steps: list[tuple[int, int]] = []

    def write_on(done: int, pages: int) -> None:
        steps.append((done, pages))
        cursor = machinery.cursor
        writer.write(cursor, [machinery.block([(1, record("E0001") * 50)])], JOURNAL)

    target = tmp_path / "copy.db"
    backup(path, target, write_on)
    writer.close()
    assert len(steps) > 5
    assert steps[-1][0] == steps[-1][1]
    books = SqliteBooks(target)
    found = reconcile(books, waiting=None)
    books.close()
    assert (found.findings, found.readings) == ([], 2_000)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert {file.name for file in tmp_path.glob("copy*")} == {"copy.db"}


def test_the_tables_go_on_from_a_backup(path: Path, tmp_path: Path) -> None:
    """Put in the place of the database, it says how far it had come."""
    target = tmp_path / "copy.db"
    backup(path, target)
    writer = SqliteTableWriter(target)
    claim = writer.claim(3, JOURNAL, adopt=False)
    writer.close()
    assert claim.cursor is not None
    assert (claim.cursor.block, claim.next_record) == (1, 2_000)


def test_a_backup_that_fails_leaves_the_one_before(path: Path, tmp_path: Path) -> None:
    """What can't be copied replaces nothing, and no half copy lies about."""
    target = tmp_path / "copy.db"
    target.write_bytes(b"the one before")
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"not a database" * 1_000)
    with pytest.raises(SchemaError):
        backup(damaged, target)

    def break_down(_done: int, _pages: int) -> None:
        raise apsw.FullError("no room")

    with pytest.raises(StorageError):
        backup(path, target, break_down)
    assert target.read_bytes() == b"the one before"
    assert not list(tmp_path.glob("*.part*"))


def test_a_backup_names_what_is_wrong(path: Path, tmp_path: Path) -> None:
    """No source, no folder, or the source itself as target: one line that says which."""
    with pytest.raises(StoreUnavailableError, match=r"nothing\.db"):
        backup(tmp_path / "nothing.db", tmp_path / "copy.db")
    with pytest.raises(StoreUnavailableError, match="nowhere"):
        backup(path, tmp_path / "nowhere" / "copy.db")
    with pytest.raises(StorageError, match="database itself"):
        backup(path, path)
