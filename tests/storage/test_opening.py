"""Opening a database: made where there is none, refused where it is not ours, and said in one line."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from storage.errors import SchemaError, StorageError, StoreBusyError, StoreUnavailableError
from storage.sqlite.connect import open_for_reading, open_for_writing
from storage.sqlite.reader import SqliteReadingStore
from storage.sqlite.schema import APPLICATION_ID, VERSION
from storage.sqlite.writer import SqliteTableWriter
from tests.storage.building import JOURNAL, Machinery, record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "headrace.db"


def _foreign(path: Path, *statements: str) -> bytes:
    path.parent.mkdir()
    path.touch()
    connection = apsw.Connection(str(path))
    for statement in statements:
        connection.execute(statement)
    connection.close()
    return path.read_bytes()


def test_a_new_database_belongs_to_its_owner_alone(path: Path) -> None:
    """The file and those beside it may be read by nobody else; opening it again changes nothing."""
    connection = open_for_writing(path)
    connection.execute("INSERT INTO nodes (node) VALUES (1)")
    files = list(path.parent.iterdir())
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    again = open_for_writing(path)
    assert again.execute("SELECT count(*) FROM nodes").get == 1
    connection.close()
    again.close()


def test_a_commit_is_synced(path: Path) -> None:
    """The journal is trimmed behind these commits, so they must be durable."""
    connection = open_for_writing(path)
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 2
    connection.close()


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        (["CREATE TABLE orders (id)"], "another program's"),
        (["PRAGMA application_id = 7"], "application id 7"),
        (["PRAGMA user_version = 7"], "another program's"),
        (
            [f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {VERSION + 1}"],
            f"version {VERSION + 1} of the tables, this program knows version {VERSION}",
        ),
    ],
)
def test_a_database_that_is_not_ours_is_left_alone(path: Path, statements: list[str], found: str) -> None:
    """Another program's file, or a newer one of ours, is named and not touched."""
    before = _foreign(path, *statements)
    for opening in (open_for_writing, open_for_reading):
        with pytest.raises(SchemaError, match=found) as error:
            opening(path)
        assert str(path) in str(error.value)
        assert "storage.sqlite.path" in str(error.value)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    """Whatever it is, it is not overwritten."""
    path.parent.mkdir()
    path.write_bytes(b"something else" * 1_000)
    with pytest.raises(SchemaError, match="not a database; set storage"):
        open_for_writing(path)
    assert path.read_bytes() == b"something else" * 1_000


def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """A folder in the way, or a file where a folder should be."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "headrace.db"):
        with pytest.raises(StoreUnavailableError, match=str(path)) as error:
            open_for_writing(path)
        assert error.value.retriable


async def test_a_reader_waits_for_tables_that_are_not_there_yet(path: Path) -> None:
    """Before the first writer a read says so, and after it the same store reads."""
    store = SqliteReadingStore(path)
    with pytest.raises(StoreUnavailableError):
        await store.latest("E0001")
    _foreign(path)
    with pytest.raises(StoreUnavailableError, match="no tables yet"):
        await store.latest("E0001")
    SqliteTableWriter(path).close()
    assert await store.latest("E0001") is None
    await store.close()


def test_a_database_that_another_program_holds_is_busy(path: Path) -> None:
    """The writer waits a while, then says so; when it is let go the same write succeeds."""
    writer = SqliteTableWriter(path)
    writer.claim(3, JOURNAL, adopt=False)
    writer._connection.set_busy_timeout(1)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    block = Machinery().block([(1, record("E0001"))])
    with pytest.raises(StoreBusyError) as error:
        writer.write(None, [block], JOURNAL)
    assert error.value.retriable
    other.execute("COMMIT")
    other.close()
    assert writer.write(None, [block], JOURNAL).stored == 1
    writer.close()


def test_a_damaged_database_says_so(path: Path) -> None:
    """Pages that make no sense are no reason to try again."""
    writer = SqliteTableWriter(path)
    writer.claim(3, JOURNAL, adopt=False)
    writer.write(None, [Machinery().block([(1, record("E0001") * 900)])], JOURNAL)
    writer.close()
    content = bytearray(path.read_bytes())
    content[4_096:] = b"\x7f" * (len(content) - 4_096)
    path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged") as error:
        SqliteTableWriter(path).claim(3, JOURNAL, adopt=False)
    assert not error.value.retriable


def test_many_can_make_one_file_at_once(path: Path) -> None:
    """A server and commands beside it: each finds the tables made, whoever was first."""
    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            one = path.with_name(f"{number}.db")
            for connection in pool.map(open_for_writing, [one] * 8):
                connection.close()
            open_for_reading(one).close()
