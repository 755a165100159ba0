"""The journal: what is committed is read back in order, by anybody, and goes when nobody needs it."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ingest.errors import JournalError, JournalLockedError
from ingest.journal import Journal, JournalReader
from ingest.settings import MIB, JournalSettings
from parser.block import Block
from storage.base import DamagedBlock
from tests.ingest.building import SMALLEST, Desk, block, chain, read_all, same, until


def test_what_was_committed_is_read_back_byte_for_byte(tmp_path: Path) -> None:
    """Order, bytes and everything in the header survive."""
    blocks = chain(50)
    with Desk(tmp_path) as desk:
        desk.commit(blocks)
        assert same(desk.committed, blocks)
        assert same(read_all(tmp_path), blocks)
        assert same(read_all(tmp_path, after=20), blocks[20:])


def test_a_reader_gets_about_as_many_bytes_as_it_asked_for(tmp_path: Path) -> None:
    """A backlog comes in pieces, so that a sink's memory is bounded."""
    blocks = chain(100, size=50_000)
    with Desk(tmp_path) as desk:
        desk.commit(blocks)
        reader = JournalReader(tmp_path)
        piece = reader.read(0, 100_000)
        reader.close()
        assert 2 <= len(piece) <= 16 + 2


def test_a_reader_gets_few_blocks_of_very_short_records(tmp_path: Path) -> None:
    """As rejects they take a hundred times as much memory; all of them come, one step after another."""
    blocks = chain(6, records=200_000, size=400_000)
    with Desk(tmp_path) as desk:
        desk.commit(blocks)
        reader = JournalReader(tmp_path)
        pieces: list[list[Block | DamagedBlock]] = []
        while piece := reader.read(2 * len(pieces), 8 * MIB):
            pieces.append(piece)
        reader.close()
    assert [len(piece) for piece in pieces] == [2, 2, 2]


def test_what_waits_while_a_commit_is_under_way_goes_into_the_next_one(tmp_path: Path) -> None:
    """A slow disk means larger commits, not a longer queue."""
    blocks = chain(64)
    with Desk(tmp_path) as desk:
        with desk.hold():  # the committer can take none until all are there
            desk.submit(blocks)
        until(lambda: len(desk.committed) == 64, "the commit")
        assert desk.groups == [64]


def test_a_journal_says_what_is_queued_and_where_it_ends(tmp_path: Path) -> None:
    blocks = chain(8)
    with Desk(tmp_path) as desk:
        with desk.hold():
            desk.submit(blocks)
            assert desk.journal.statistics.queued_bytes == sum(len(b.payload) for b in blocks)
        until(lambda: not desk.journal.statistics.queued_bytes, "the commit")
        tail = desk.journal.tail
        assert (tail.block, tail.next_record, tail.stamp_us) == (8, 24, blocks[-1].stamp_us)
        assert desk.journal.statistics.bytes > 0


def test_a_full_segment_is_followed_by_the_next(tmp_path: Path) -> None:
    """Readers cross from one to the other without noticing."""
    blocks = chain(60, size=100_000)
    with Desk(tmp_path) as desk:
        desk.journal.passed("slow", 0)
        for each in blocks:
            desk.commit([each])
        assert len(desk.segments()) >= 4
        assert same(read_all(tmp_path), blocks)


def test_segments_go_when_the_slowest_sink_has_passed_them(tmp_path: Path) -> None:
    """And not before, however far the other sinks are."""
    blocks = chain(60, size=100_000)
    with Desk(tmp_path) as desk:
        desk.journal.passed("fast", 60)
        desk.journal.passed("slow", 0)
        for each in blocks:
            desk.commit([each])
        assert same(read_all(tmp_path), blocks)
        desk.journal.passed("slow", 30)
        until(lambda: "00000001.db" not in desk.segments(), "the trimming")
        assert same(read_all(tmp_path, after=30), blocks[30:])
        desk.journal.passed("slow", 60)
        until(lambda: len(desk.segments()) <= 1, "the trimming of the rest")


def test_a_reader_forgets_segments_that_are_gone(tmp_path: Path) -> None:
    """It runs for years, and looks through what it knows each time it comes to the end."""
    reader, last = JournalReader(tmp_path), None
    with Desk(tmp_path) as desk:
        for _ in range(10):
            blocks = chain(12, after=last, size=100_000)
            for each in blocks:
                desk.commit([each])
            last = blocks[-1]
            assert same(reader.read(blocks[0].id - 1, 10 * MIB), blocks)
            desk.journal.passed("sink", last.id)
            until(lambda: len(desk.segments()) <= 2, "the trimming")
            reader.read(last.id, MIB)
            assert len(reader._starts) <= 3
    reader.close()


def test_nothing_is_trimmed_before_a_sink_has_reported(tmp_path: Path) -> None:
    """A journal whose sinks are not there yet keeps everything."""
    blocks = chain(40, size=100_000)
    with Desk(tmp_path) as desk:
        for each in blocks:
            desk.commit([each])
    assert same(read_all(tmp_path), blocks)


def test_passed_segments_stay_for_keep_hours(tmp_path: Path) -> None:
    """A segment is old by the newest stamp, not by a clock that may have jumped."""
    hour_us = 3_600_000_000
    early = chain(15, size=100_000)
    with Desk(tmp_path, keep_hours=1.0, max_bytes=4 * SMALLEST) as desk:
        desk.journal._keeper._segment_bytes = MIB
        desk.journal.passed("sink", 10_000)
        for each in early:
            desk.commit([each])
        late = [
            block(b.id, first=b.first_record, records=3, size=100_000, stamp=b.stamp_us + 2 * hour_us)
            for b in chain(1, after=early[-1])
        ]
        desk.close()
        assert same(read_all(tmp_path), early)
    with Desk(tmp_path, keep_hours=1.0, max_bytes=4 * SMALLEST) as desk:
        desk.journal.passed("sink", 10_000)
        desk.commit(late)
        until(lambda: len(desk.segments()) == 1, "the trimming of what is too old")
        assert same(read_all(tmp_path), late)


def test_keep_hours_can_be_changed(tmp_path: Path) -> None:
    """What was kept for longer goes when they are shorter."""
    with Desk(tmp_path, keep_hours=1000.0) as desk:
        desk.journal.passed("sink", 10_000)
        for each in chain(40, size=100_000):
            desk.commit([each])
        assert len(desk.segments()) > 2
        desk.journal.keep(0.0)
        until(lambda: len(desk.segments()) == 1, "the trimming")


def test_keep_hours_give_way_to_max_bytes(tmp_path: Path) -> None:
    """What every sink has passed never makes the journal full."""
    with Desk(tmp_path, keep_hours=1000.0) as desk:
        desk.journal.passed("sink", 10_000)
        for each in chain(300, size=100_000):
            desk.commit([each])
            assert not desk.journal.statistics.bounded
        until(lambda: desk.journal.statistics.bytes < SMALLEST, "the trimming")


def test_a_journal_says_when_it_has_reached_its_size(tmp_path: Path) -> None:
    """It flips at the high mark, stays so until the low mark, and never goes over its size."""
    with Desk(tmp_path) as desk:
        keeper = desk.journal._keeper

        def above_low_mark() -> bool:
            return desk.journal.statistics.bytes > keeper.low_mark

        desk.journal.passed("sink", 0)
        last, seen = None, []
        while not desk.journal.statistics.bounded:
            [last] = chain(1, after=last, size=100_000)
            seen.append(desk.journal.statistics.bytes)
            desk.changes.clear()
            desk.commit([last])
        assert desk.changes.is_set()
        assert max(seen) <= keeper.high_mark < desk.journal.statistics.bytes < SMALLEST
        while desk.journal.statistics.bounded:
            assert above_low_mark()
            oldest = desk.segments()[0]
            desk.journal.passed("sink", keeper._kept[0].last_block)
            until(lambda name=oldest: name not in desk.segments(), "a trimming")  # type: ignore[misc]
            until(lambda: desk.journal.statistics.bounded is above_low_mark(), "the review")


def test_numbers_and_stamps_go_on_after_a_restart(tmp_path: Path) -> None:
    """The journal remembers where it stopped, also after several segments."""
    first = chain(30, size=100_000)
    with Desk(tmp_path) as desk:
        assert desk.journal.is_new
        name = desk.journal.id
        for each in first:
            desk.commit([each])
    second = chain(5, after=first[-1])
    with Desk(tmp_path) as desk:
        assert not desk.journal.is_new
        assert desk.journal.id == name
        tail = desk.journal.tail
        assert (tail.block, tail.next_record, tail.stamp_us) == (30, 90, first[-1].stamp_us)
        desk.commit(second)
        assert same(read_all(tmp_path), first + second)


def test_a_journal_that_every_sink_has_passed_still_knows_where_it_ends(tmp_path: Path) -> None:
    """The tables may be out of reach at the next start, so the journal alone has to know."""
    blocks = chain(30, size=100_000)
    with Desk(tmp_path) as desk:
        desk.journal.passed("sink", 30)
        for each in blocks:
            desk.commit([each])
    with Desk(tmp_path) as desk:
        desk.journal.passed("sink", 30)
        assert desk.journal.tail.block == 30
        assert desk.journal.tail.next_record == 90
    with Desk(tmp_path) as desk:
        assert desk.journal.tail.block == 30
        assert len(desk.segments()) == 1


def test_closing_commits_what_is_queued(tmp_path: Path) -> None:
    blocks = chain(100, size=20_000)
    desk = Desk(tmp_path)
    desk.submit(blocks)
    assert desk.close()
    assert same(read_all(tmp_path), blocks)


def test_a_journal_that_was_never_started_can_be_closed(tmp_path: Path) -> None:
    """A server that refuses to start lets go of its journal like any other."""
    settings = JournalSettings(path=str(tmp_path), max_bytes=SMALLEST)
    assert Journal(settings, 3).close()
    assert Journal(settings, 3).close()


def test_a_second_server_on_one_journal_is_refused(tmp_path: Path) -> None:
    """Also one of the same process; and the first goes on."""
    with Desk(tmp_path) as desk:
        with pytest.raises(JournalLockedError, match="another server is writing to this journal"):
            Desk(tmp_path)
        blocks = chain(3)
        desk.commit(blocks)
    assert same(read_all(tmp_path), blocks)


def test_another_nodes_journal_is_refused(tmp_path: Path) -> None:
    """The message says whose it is and what to set."""
    Desk(tmp_path, node=3).close()
    with pytest.raises(JournalError, match=r"is the journal of node 3, not of node 4; set \[ingest\]"):
        Desk(tmp_path, node=4)
    Desk(tmp_path, node=3).close()


def test_a_journal_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(JournalError, match="can't be made there"):
        Desk(tmp_path / "file" / "journal")


_READ: str = """
import sys
from pathlib import Path
from ingest.journal import JournalReader
reader, after = JournalReader(Path(sys.argv[1])), 0
for line in sys.stdin:
    found = reader.read(after, 1 << 20)
    after = found[-1].id if found else after
    print(*(block.id for block in found), flush=True)
"""


def test_readers_in_another_process_see_each_commit(tmp_path: Path) -> None:
    """From its `on_commit` on, also across segments and while the journal is written."""
    with Desk(tmp_path) as desk:
        desk.journal.passed("sink", 0)
        reader = subprocess.Popen(
            [sys.executable, "-c", _READ, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        with reader:
            assert reader.stdin is not None
            assert reader.stdout is not None
            last: Block | None = None
            for _ in range(40):
                blocks: Sequence[Block] = chain(3, after=last, size=30_000)
                desk.commit(blocks)
                last = blocks[-1]
                reader.stdin.write("\n")
                assert [int(n) for n in reader.stdout.readline().split()] == [b.id for b in blocks]
        assert len(desk.segments()) > 1
