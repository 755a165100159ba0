"""Faults of the world around the tables: long readers, full disks, killed and second writers."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from storage.errors import CursorMovedError, NodeClaimedError, StoreFullError
from storage.reconcile import reconcile
from storage.sqlite import checkpoint, connect
from storage.sqlite.books import SqliteBooks
from storage.sqlite.writer import SqliteTableWriter
from tests.storage import writing_child
from tests.storage.building import JOURNAL, Machinery, opened, record

pytestmark = pytest.mark.fault

MANY = b"".join(record(f"E{number % 40:04d}") for number in range(2_000))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "headrace.db"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["/bin/umount", "--lazy", str(tmp_path)], check=True)


def _claimed(path: Path) -> SqliteTableWriter:
    writer = SqliteTableWriter(path)
    writer.claim(3, JOURNAL, adopt=False)
    return writer


def _write(writer: SqliteTableWriter, machinery: Machinery, sent: bytes = MANY) -> int:
    cursor = machinery.cursor
    block = machinery.block([(1, sent)], events=(opened(1),))
    return writer.write(cursor, [block], JOURNAL).stored


def _readings(path: Path) -> int:
    """Rows in the table, which agree with all books."""
    books = SqliteBooks(path)
    found = reconcile(books, waiting=None)
    books.close()
    assert found.findings == []
    return found.readings


def test_a_long_reader_only_makes_the_log_grow(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 23: writing goes on while another program reads; when it ends the WAL shrinks by itself."""
    monkeypatch.setattr(connect, "_WAL_BYTES", 1 << 20)
    monkeypatch.setattr(checkpoint, "_PATIENCE_MS", 10)
    writer, machinery = _claimed(path), Machinery()
    _write(writer, machinery)
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN")
    before = reader.execute("SELECT count(*) FROM readings").get
    wal = path.with_name(path.name + "-wal")
    rounds = 0
    while wal.stat().st_size < 8 << 20:
        assert _write(writer, machinery) == 2_000
        rounds += 1
    assert rounds < 200
    assert reader.execute("SELECT count(*) FROM readings").get == before
    reader.execute("COMMIT")
    reader.close()
    for _ in range(5):
        _write(writer, machinery)
    assert wal.stat().st_size <= 1 << 20
    assert _readings(path) == (rounds + 6) * 2_000
    writer.close()


def test_readers_that_never_pause_do_not_make_the_log_grow(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one short read always overlaps the next, the writer waits for those of a moment."""
    monkeypatch.setattr(connect, "_WAL_BYTES", 1 << 20)
    writer, machinery = _claimed(path), Machinery()
    _write(writer, machinery)
    over = threading.Event()

    def read() -> None:
        reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        reader.set_busy_timeout(10_000)
        while not over.is_set():
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM readings").fetchall()
            over.wait(0.01)
            reader.execute("COMMIT")
        reader.close()

    readers = [threading.Thread(target=read) for _ in range(4)]
    for thread in readers:
        thread.start()
    sizes = []
    for _ in range(60):
        _write(writer, machinery)
        sizes.append(path.with_name(path.name + "-wal").stat().st_size)
    over.set()
    for thread in readers:
        thread.join()
    assert max(sizes) <= 3 << 20
    writer.close()


def test_who_takes_over_the_mark_of_an_older_read_is_not_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log begins anew beside reads that overlap, although SQLite would wait for their common mark."""
    monkeypatch.setattr(connect, "_WAL_BYTES", 1 << 20)
    writer, machinery = _claimed(path), Machinery()
    _write(writer, machinery, record("E0000"))
    wal = path.with_name(path.name + "-wal")
    reader, next_reader = (apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY) for _ in range(2))

    def write() -> None:
        while wal.stat().st_size < 1 << 20:
            _write(writer, machinery)

    _begin_to_read(reader)
    writing = threading.Thread(target=write)
    writing.start()
    while wal.stat().st_size < 1 << 20:
        time.sleep(0.01)
    time.sleep(0.2)  # by now it waits, and looks at the mark every 50 ms
    reader.execute("COMMIT")
    while writing.is_alive():
        _begin_to_read(next_reader)
        if reader.in_transaction:
            reader.execute("COMMIT")
        reader, next_reader = next_reader, reader
        time.sleep(0.01)
    _write(writer, machinery)
    assert wal.stat().st_size <= 1 << 20  # begun anew, and cut back
    for each in (writer, reader, next_reader):
        each.close()


def _begin_to_read(reader: apsw.Connection) -> None:
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM nodes").fetchall()


def test_a_full_database_takes_nothing_by_halves(path: Path) -> None:
    """Fault 24: what does not fit is not there at all, and fits once there is room."""
    writer, machinery = _claimed(path), Machinery()
    _write(writer, machinery)
    pages = writer._connection.pragma("page_count")
    writer._connection.pragma("max_page_count", pages + 5)
    cursor = machinery.cursor
    block = machinery.block([(1, MANY + b"bad#"), (2, MANY)], events=(opened(2),))
    for _ in range(3):
        with pytest.raises(StoreFullError) as error:
            writer.write(cursor, [block], JOURNAL)
        assert error.value.retriable
    assert _readings(path) == 2_000
    assert writer.claim(3, JOURNAL, adopt=False).cursor == cursor
    writer._connection.pragma("max_page_count", pages + 10_000)
    assert writer.write(cursor, [block], JOURNAL).stored == 4_000
    assert _readings(path) == 6_000
    writer.close()


def test_a_full_disk_heals(small_disk: Path) -> None:
    """Fault 24 with a real disk: the same write that failed succeeds when there is room again."""
    path = small_disk / "headrace.db"
    writer, machinery = _claimed(path), Machinery()
    written = 0
    failure: StoreFullError | None = None
    while failure is None:
        cursor = machinery.cursor
        block = machinery.block([(1, MANY)], events=(opened(1),))
        try:
            written += writer.write(cursor, [block], JOURNAL).stored
        except StoreFullError as error:
            failure = error
    assert str(path) in str(failure)
    assert writer.claim(3, JOURNAL, adopt=False).cursor == cursor
    subprocess.run(["/bin/mount", "-o", "remount,size=32m", str(small_disk)], check=True)
    written += writer.write(cursor, [block], JOURNAL).stored
    written += _write(writer, machinery)
    assert _readings(path) == written
    writer.close()


def test_a_killed_writer_leaves_rows_and_cursor_in_agreement(path: Path) -> None:
    """Killed at any moment, again and again: what it said is there, and nothing by halves."""
    chance = random.Random(28)  # noqa: S311 - chance that can be repeated is what is wanted here
    done = 0
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-m", writing_child.__name__, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(chance.randrange(1, 12)):
            done = int(child.stdout.readline())
        child.kill()
        rest = child.stdout.read().split()
        done = int(rest[-1]) if rest else done
        child.stdout.close()
        child.wait()
        writer = _claimed(path)
        cursor = writer.claim(3, JOURNAL, adopt=False).cursor
        assert writer._connection.pragma("integrity_check") == "ok"
        writer.close()
        assert cursor is not None
        assert done <= cursor.block <= done + 1
        assert _readings(path) == cursor.block * writing_child.ROWS


def test_a_second_writer_can_write_no_block_again(path: Path) -> None:
    """Fault 28: a writer that outlived its process finds that the cursor has moved, and stops."""
    orphan, writer, machinery = _claimed(path), _claimed(path), Machinery()
    _write(orphan, machinery)
    cursor = machinery.cursor
    block = machinery.block([(1, MANY)])
    writer.write(cursor, [block], JOURNAL)
    with pytest.raises(CursorMovedError):
        orphan.write(cursor, [block], JOURNAL)
    assert _readings(path) == 4_000
    orphan.close()
    writer.close()


def test_a_node_that_was_adopted_is_lost_to_its_old_writer(path: Path) -> None:
    """Fault 27: two servers with one node id; the second is refused, and who is replaced stops."""
    writer, other, machinery = _claimed(path), SqliteTableWriter(path), Machinery()
    _write(writer, machinery)
    with pytest.raises(NodeClaimedError, match="node 3 belongs to journal journal-a"):
        other.claim(3, "journal-b", adopt=False)
    assert other.claim(3, "journal-b", adopt=True).next_record == machinery.record
    with pytest.raises(NodeClaimedError):
        _write(writer, machinery)
    assert _readings(path) == 2_000
    other.close()
    writer.close()
