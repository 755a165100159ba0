"""Files made ahead: commits find their log written, and what was not needed of it is given back."""

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pytest
from structlog.testing import capture_logs

from ingest.errors import JournalFullError
from ingest.journal import keeper
from ingest.journal.ahead import Ahead, log_bytes_for
from ingest.journal.segment import Segment, disk_bytes, log_of, read_log
from ingest.settings import MIB
from parser.block import Block
from tests.ingest.building import Desk, chain, read_all, same, until, write_ahead

SEGMENT: Final = MIB
LOG: Final = log_bytes_for(SEGMENT)


def test_from_the_second_segment_on_commits_make_no_file_longer(tmp_path: Path) -> None:
    """Neither in bytes nor in blocks of the file system, until the segment is full."""
    blocks: list[Block] = []
    with Desk(tmp_path) as desk:
        desk.journal.passed("sink", 0)
        for segment in range(1, 4):
            while len(desk.segments()) < segment:
                blocks += _commit_one(desk, blocks)
            log = log_of(tmp_path / desk.segments()[-1])
            sizes = {_sizes(log)} if segment > 1 else set()
            while len(read_log(tmp_path / desk.segments()[-1])) < SEGMENT // 2:
                blocks += _commit_one(desk, blocks)
                sizes |= {_sizes(log)} if segment > 1 else set()
            assert len(sizes) == (segment > 1)
            assert all(size == LOG for size, _ in sizes)
            until((tmp_path / "spare-wal").exists, "the next log")
            until((tmp_path / "spare").exists, "the next database")
        assert same(read_all(tmp_path), blocks)
    assert same(read_all(tmp_path), blocks)


def test_where_little_comes_nothing_is_written_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was just started has no use for it, and a flash card wears out by it."""
    monkeypatch.setattr(keeper, "_ROUND_S", 0.01)
    with Desk(tmp_path) as desk:
        desk.commit(chain(1, size=SEGMENT // 8))
        until((tmp_path / "spare").exists, "a file made ahead")
        for each in range(2, 5):
            desk.commit(chain(each, size=1000)[-1:])
        assert not list(tmp_path.glob("spare-wal*"))


def test_what_was_not_needed_is_given_back_at_the_end(tmp_path: Path) -> None:
    """A server that is started and ended every minute doesn't fill the disk with zeros."""
    write_ahead(tmp_path)
    with Desk(tmp_path) as desk:
        desk.commit(chain(3))
        log = log_of(tmp_path / desk.segments()[-1])
        assert log.stat().st_size == LOG
    assert 0 < log.stat().st_size < 100_000
    assert same(read_all(tmp_path), chain(3))


def test_what_a_killed_server_wrote_ahead_is_given_back_by_the_next(tmp_path: Path) -> None:
    """Once it is known what of the log is good."""
    killed, blocks = tmp_path / "killed", chain(5)
    write_ahead(tmp_path)
    with Desk(tmp_path) as desk:
        desk.commit(blocks[:3])
        shutil.copytree(tmp_path, killed, ignore=shutil.ignore_patterns("killed", "spare*"))
    assert log_of(killed / "00000001.db").stat().st_size == LOG
    with Desk(killed) as desk:
        assert log_of(killed / "00000001.db").stat().st_size < 100_000
        assert desk.journal.statistics.bytes == disk_bytes(killed / "00000001.db")
        desk.commit(blocks[3:])
        assert same(read_all(killed), blocks)


def test_a_log_begun_by_a_server_that_ended_is_written_to_its_end(tmp_path: Path) -> None:
    """Parts are all zeros, so one more is as good as another."""
    ahead = Ahead(tmp_path, 6 * MIB, vfs=None)
    assert ahead.write_log()
    os.truncate(tmp_path / "spare-wal.new", MIB + 17)
    again = Ahead(tmp_path, 6 * MIB, vfs=None)
    while again.write_log():
        pass
    assert (tmp_path / "spare-wal").read_bytes() == bytes(6 * MIB)
    assert not again.write_log()


@pytest.mark.parametrize("kill", ["before the database", "before both"])
def test_a_kill_between_the_names_leaves_nothing_that_hurts(tmp_path: Path, kill: str) -> None:
    """The log gets its name first; a log without a database is deleted."""
    write_ahead(tmp_path)
    if kill == "before the database":
        (tmp_path / "spare-wal").rename(tmp_path / "00000001.db-wal")
    blocks = chain(3)
    with Desk(tmp_path) as desk:
        desk.commit(blocks)
        assert same(read_all(tmp_path), blocks)
        size = log_of(tmp_path / "00000001.db").stat().st_size
        assert (size == LOG) == (kill == "before both")


def test_without_room_for_a_log_the_commits_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written of it gives its room back, it is said once, and tried again later."""
    monkeypatch.setattr(keeper, "_AHEAD_AGAIN_S", 0.3)
    tried, sync = [], os.fdatasync

    def full(file: int) -> None:
        tried.append(file)
        if len(tried) < 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    monkeypatch.setattr(os, "fdatasync", full)
    blocks: list[Block] = []
    with capture_logs() as said, Desk(tmp_path) as desk:
        while len(desk.segments()) < 2:
            blocks += _commit_one(desk, blocks)
        while len(tried) < 1:
            blocks += _commit_one(desk, blocks)
        until(lambda: not list(tmp_path.glob("spare-wal.new")), "the room given back")
        while not (tmp_path / "spare-wal").exists():
            blocks += _commit_one(desk, blocks)
        assert same(read_all(tmp_path), blocks)
    (line,) = [line for line in said if line["event"] == "journal_upkeep_failed"]
    assert line["step"] == "write_ahead"
    assert "No space left" in line["reason"]


def test_on_a_disk_that_is_nearly_full_there_is_no_log_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there of it is deleted: the room is for the commits."""
    ahead = Ahead(tmp_path, 8 * MIB, vfs=None)
    assert ahead.write_log()
    free = SimpleNamespace(free=24 * MIB - 1)
    with monkeypatch.context() as nearly_full:
        nearly_full.setattr(shutil, "disk_usage", lambda _: free)
        assert not ahead.write_log()
        assert not list(tmp_path.iterdir())
        free.free = 24 * MIB
        assert ahead.write_log()
    assert not ahead.write_log()
    free.free = 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    assert not ahead.write_log()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [LOG // 2, 4 * LOG])
@pytest.mark.parametrize("name", ["spare-wal", "spare-wal.new"])
def test_a_log_of_another_length_is_not_taken(tmp_path: Path, name: str, size: int) -> None:
    """As one that an earlier server left, when `max_bytes` was another."""
    write_ahead(tmp_path)
    (tmp_path / "spare-wal").unlink()
    (tmp_path / name).write_bytes(bytes(size))
    blocks = chain(100, size=20_000)
    with Desk(tmp_path) as desk:
        desk.journal.passed("sink", 0)
        for block in blocks:
            desk.commit([block])
        assert len(desk.segments()) > 1
        assert not desk.journal.statistics.bounded
        assert all(log_of(tmp_path / name).stat().st_size < 2 * LOG for name in desk.segments())
        assert same(read_all(tmp_path), blocks)


def test_what_was_taken_and_can_not_be_opened_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without file descriptors; its zeros would count for nothing and stay."""
    write_ahead(tmp_path)
    is_sound, failures = Segment.is_sound, iter([JournalFullError("failed on purpose")])

    def fails_once(segment: Segment) -> bool:
        for failure in failures:
            raise failure
        return is_sound(segment)

    monkeypatch.setattr(Segment, "is_sound", fails_once)
    with Desk(tmp_path) as desk:
        desk.commit(chain(1))
        assert desk.segments() == ["00000001.db"]
        assert log_of(tmp_path / "00000001.db").stat().st_size < LOG
        assert same(read_all(tmp_path), chain(1))


def test_reading_goes_on_when_what_is_kept_gives_way(tmp_path: Path) -> None:
    """Also where a log written ahead makes the newest segment larger than it has to be."""
    blocks: list[Block] = []
    with Desk(tmp_path, keep_hours=1000.0) as desk:
        desk.journal.passed("sink", 0)
        while not desk.journal.statistics.bounded:
            blocks += _commit_one(desk, blocks)
        desk.journal.passed("sink", blocks[-1].id)
        until(lambda: not desk.journal.statistics.bounded, "the trimming")


def _commit_one(desk: Desk, blocks: list[Block]) -> list[Block]:
    new = chain(1, after=blocks[-1] if blocks else None, size=20_000)
    desk.commit(new)
    return new


def _sizes(log: Path) -> tuple[int, int]:
    found = log.stat()
    return found.st_size, found.st_blocks
