"""Disks that lose their power, fail, fill up or are slow: nothing acknowledged is lost, nothing grows."""

import errno
import os
import random
import re
import resource
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from structlog.testing import capture_logs

from ingest.errors import JournalBrokenError, JournalLockedError
from ingest.journal import JournalState
from ingest.journal.keeper import Keeper
from ingest.journal.segment import Segment, disk_bytes
from parser.block import Block
from tests.ingest.building import DEADLINE_S, Desk, chain, read_all, same, until, write_ahead
from tests.ingest.disks import Disk, Operation
from tests.support.powercut import PowerCut

pytestmark = pytest.mark.fault


@pytest.fixture
def disk() -> Iterator[Disk]:
    """A disk that works, so far."""
    with Disk() as disk:
        yield disk


class Cuts:
    """Journals as power cuts at many moments would have left them."""

    def __init__(self, folder: Path, power: PowerCut, seed: int) -> None:
        self._folder = folder
        self._power = power
        self._random = random.Random(seed)  # noqa: S311  # repeatable
        self.left: list[tuple[Path, int]] = []
        """A folder each, and the last block that was acknowledged before the cut."""
        self.acknowledged = 0
        self._lock = threading.Lock()

    def maybe(self) -> None:
        """Cut the power here, or not; called by all threads of the journal."""
        with self._lock:
            if len(self.left) < 40 and self._random.random() < 0.05:
                into = self._folder.parent / f"cut-{len(self.left)}"
                into.mkdir()
                acknowledged = self.acknowledged
                self._power.survivors(self._folder, into, self._random)
                shutil.copy(self._folder / "lock", into / "lock")
                self.left.append((into, acknowledged))


def _cut_while_writing(tmp_path: Path, seed: int, *, ahead: bool = False) -> tuple[list[Block], Cuts]:
    """Write through several segments, with a sink that follows, and cut the power now and then."""
    folder = tmp_path / "journal"
    folder.mkdir()
    if ahead:
        write_ahead(folder)
    blocks = chain(90, size=40_000)
    with PowerCut() as power:
        cuts = Cuts(folder, power, seed)
        with Desk(folder) as desk:
            desk.journal.passed("sink", 0)
            power.watch(cuts.maybe)
            for each in blocks:
                desk.commit([each])
                cuts.acknowledged = each.id
            power.watch(None)
    return blocks, cuts


def _lost(blocks: list[Block], cuts: Cuts) -> int:
    """How many acknowledged blocks the cuts lost; what is there must be what was written."""
    lost = 0
    for folder, acknowledged in cuts.left:
        Desk(folder).close()
        found = [block for block in read_all(folder) if isinstance(block, Block)]
        assert [block.id for block in found] == sorted({block.id for block in found})
        assert same(found, [blocks[block.id - 1] for block in found])
        lost += len({block.id for block in blocks[:acknowledged]} - {block.id for block in found})
    return lost


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path: Path, seed: int, ahead: bool) -> None:  # noqa: FBT001
    """Only what was synced is sure to be there, and that is enough; also in a log made ahead."""
    blocks, cuts = _cut_while_writing(tmp_path, seed, ahead=ahead)
    assert len(cuts.left) > 10
    assert _lost(blocks, cuts) == 0


def test_without_syncs_the_same_power_cut_loses_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test above does cut something off."""
    set_up = Segment._set_up

    def unsynced(segment: Segment, *, create: bool) -> None:
        set_up(segment, create=create)
        segment._db.pragma("synchronous", "OFF")

    monkeypatch.setattr(Segment, "_set_up", unsynced)
    blocks, cuts = _cut_while_writing(tmp_path, 0)
    assert _lost(blocks, cuts) > 0


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_after_an_io_error_the_journal_goes_on_in_a_new_segment(
    tmp_path: Path, disk: Disk, operation: Operation
) -> None:
    """Nothing more is written to the failed file, and nobody sees the block twice."""
    blocks = chain(12)
    with Desk(tmp_path, vfs=disk.name) as desk:
        desk.commit(blocks[:6])
        disk.fail_once(operation)
        desk.commit(blocks[6:7])
        assert disk.failed
        failed_size = (tmp_path / "00000001.db-wal").stat().st_size
        desk.commit(blocks[7:])
        assert (tmp_path / "00000001.db-wal").stat().st_size == failed_size
        assert desk.segments() == ["00000001.db", "00000002.db"]
        assert desk.journal.statistics.state is JournalState.WRITING
        assert same(desk.committed, blocks)
        assert same(read_all(tmp_path), blocks)
    with Desk(tmp_path):
        assert same(read_all(tmp_path), blocks)


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_when_the_new_segment_fails_too_nothing_is_acknowledged_any_more(
    tmp_path: Path, disk: Disk, operation: Operation
) -> None:
    """The journal says why, and a later server on a sound disk has all that was acknowledged."""
    blocks = chain(12)
    with Desk(tmp_path, vfs=disk.name) as desk:
        desk.commit(blocks[:6])
        desk.changes.clear()
        disk.fail_always(operation)
        desk.submit(blocks[6:])
        until(lambda: desk.journal.statistics.state is JournalState.FAILED, "the failure")
        assert desk.changes.is_set()
        assert "failed on purpose" in desk.journal.statistics.reason
        disk.fails = lambda _operation, _path: False
        desk.submit(chain(1, after=blocks[-1]))
        assert not desk.close()
        assert same(desk.committed, blocks[:6])
    with Desk(tmp_path):
        found = read_all(tmp_path)
        assert same(found, blocks[: len(found)])
        assert len(found) >= 6


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_a_journal_whose_disk_stands_still_at_its_end_stays_locked(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, operation: Operation
) -> None:
    """The commit under way may end yet, and must not meet another server's."""
    monkeypatch.setattr("ingest.journal.journal._CLOSE_S", 0.1)
    blocks, goes_on, stands = chain(3), threading.Event(), threading.Event()

    def stand_still(done: Operation, path: str) -> bool:
        if done == operation and path.endswith("-wal"):
            stands.set()
            goes_on.wait()
        return False

    desk = Desk(tmp_path, vfs=disk.name)
    desk.commit(blocks[:2])
    disk.fails = stand_still
    desk.submit(blocks[2:])
    assert stands.wait(DEADLINE_S)
    assert not desk.close()
    with pytest.raises(JournalLockedError):
        Desk(tmp_path)
    goes_on.set()
    until(lambda: len(desk.committed) == 3, "the commit")
    assert desk.journal._committer is not None
    desk.journal._committer.join()
    os.close(desk.journal._lock)  # as the process's end does
    with Desk(tmp_path):
        assert same(read_all(tmp_path), blocks)


def test_without_file_descriptors_the_journal_waits_for_one(tmp_path: Path) -> None:
    """Each segment needs a few; that there are none for a while is no reason to stop for good."""
    blocks = chain(40, size=100_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Desk(tmp_path) as desk:
        desk.commit(blocks[:20])  # more than a segment holds
        last = os.open("/dev/null", os.O_RDONLY)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1, hard))
            desk.submit(blocks[20:])
            until(lambda: desk.journal.statistics.state is JournalState.FULL, "the last descriptor")
            assert re.search("can't be opened|Too many open files", desk.journal.statistics.reason)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            os.close(last)
        until(lambda: len(desk.committed) == 40, "the commits")
        assert desk.journal.statistics.state is JournalState.WRITING
        assert same(read_all(tmp_path), blocks)


def test_the_keeper_survives_what_it_cannot_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that can't be deleted once doesn't end the trimming of all others."""
    unlink, failed = Path.unlink, threading.Event()

    def fails_once(path: Path, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002  # as Path has it
        if path.name == "00000001.db" and not failed.is_set():
            failed.set()
            raise OSError(errno.EIO, "failed on purpose")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", fails_once)
    with Desk(tmp_path) as desk:
        for each in chain(60, size=100_000):
            desk.commit([each])
        desk.journal.passed("sink", 30)
        until(failed.is_set, "the failure")
        until(lambda: "00000002.db" not in desk.segments(), "the trimming")


def test_a_segment_that_can_not_be_deleted_counts_until_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again in each round, the others go meanwhile, and the log says it once."""
    unlink, broken = Path.unlink, threading.Event()
    broken.set()

    def fails(path: Path, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002  # as Path has it
        if path.name == "00000001.db" and broken.is_set():
            raise OSError(errno.EIO, "failed on purpose")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", fails)
    with Desk(tmp_path) as desk, capture_logs() as said:
        for each in chain(60, size=100_000):
            desk.commit([each])
        first = disk_bytes(tmp_path / "00000001.db")
        desk.journal.passed("sink", 60)
        until(lambda: desk.segments()[1:] == [desk.segments()[-1]], "the trimming of all others")
        last = disk_bytes(tmp_path / desk.segments()[-1])
        until(lambda: desk.journal.statistics.bytes == first + last, "the bytes of both")
        broken.clear()
        until(lambda: len(desk.segments()) == 1, "another try")
        until(lambda: desk.journal.statistics.bytes == disk_bytes(tmp_path / desk.segments()[0]), "its bytes")
    events = [line["event"] for line in said]
    assert events.count("journal_upkeep_failed") == 1


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("_make_ahead", apsw.BusyError("on purpose")),
        ("_deletable", JournalBrokenError("on purpose")),
        ("_settle", KeyError("on purpose")),
    ],
)
def test_no_mistake_ends_the_trimming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception
) -> None:
    """The thread says it and goes on: without it the journal would grow until reading pauses."""
    work, failures = getattr(Keeper, step), iter([error, error, error])

    def fails_at_first(keeper: Keeper) -> object:
        for failure in failures:
            raise failure
        return work(keeper)

    monkeypatch.setattr(Keeper, step, fails_at_first)
    with capture_logs() as said, Desk(tmp_path) as desk:
        for each in chain(30, size=100_000):
            desk.commit([each])
        desk.journal.passed("sink", 30)
        until(lambda: len(desk.segments()) == 1, "the trimming")
    (line,) = [line for line in said if line["event"] == "journal_upkeep_failed"]
    assert repr(error) == line["reason"]
