"""Files made ahead: commits find their log written, and what was not needed of it is given back."""

import errno
import os
import shutil
from pathlib import Path
from typing import Final

import pytest
from structlog.testing import capture_logs

from ingest.journal import keeper
from ingest.journal.ahead import Ahead
from ingest.journal.segment import disk_bytes, log_of, read_log
from ingest.settings import MIB
from parser.block import Block
from tests.ingest.building import Desk, chain, read_all, same, until, write_ahead

SEGMENT: Final = MIB
LOG: Final = SEGMENT + SEGMENT // 16


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
    write_ahead(tmp_path, LOG)
    with Desk(tmp_path) as desk:
        desk.commit(chain(3))
        log = log_of(tmp_path / desk.segments()[-1])
        assert log.stat().st_size == LOG
    assert 0 < log.stat().st_size < 100_000
    assert same(read_all(tmp_path), chain(3))


def test_what_a_killed_server_wrote_ahead_is_given_back_by_the_next(tmp_path: Path) -> None:
    """Once it is known what of the log is good."""
    killed, blocks = tmp_path / "killed", chain(5)
    write_ahead(tmp_path, LOG)
    with Desk(tmp_path) as desk:
        desk.commit(blocks[:3])
        shutil.copytree(tmp_path, killed, ignore=lambda *_: ["killed"])
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
    write_ahead(tmp_path, LOG)
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


def _commit_one(desk: Desk, blocks: list[Block]) -> list[Block]:
    new = chain(1, after=blocks[-1] if blocks else None, size=20_000)
    desk.commit(new)
    return new


def _sizes(log: Path) -> tuple[int, int]:
    found = log.stat()
    return found.st_size, found.st_blocks
