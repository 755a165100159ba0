"""A journal whose files were damaged: it starts, says what is lost, and delivers all the rest."""

import errno
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from ingest.errors import JournalError, JournalFullError
from ingest.journal import JournalReader
from ingest.journal.salvage import salvage
from ingest.journal.segment import FRAME_BYTES, PAGE_BYTES, Segment, read_file, read_log, segment_paths
from ingest.settings import MIB
from parser.block import Block
from storage.base import DamagedBlock
from tests.ingest.building import SMALLEST, Desk, chain, read_all, same, until, write_ahead
from tests.ingest.disks import Disk

pytestmark = pytest.mark.fault

_SIZES = (9, 60, 400, 3000, 8190, 20_000, 70_000)
_MAX_BYTES = 4 * SMALLEST
_RECORDS = 3
_PLACES = int(os.environ.get("HEADRACE_DAMAGES", "60"))
"""How many places each test damages; each has its own seed, which a failure shows."""


class Original:
    """A journal of one segment, and which part of its log each block's commit wrote."""

    def __init__(self, folder: Path, *, checkpointed: bool = False, ahead: bool = False) -> None:
        """`checkpointed` or as a kill leaves it; with `ahead` its log was written before it began."""
        self.folder = folder
        self.ahead = 0
        """How long that log is; 0 without one."""

        self.blocks: list[Block] = []
        self.log_ends: list[int] = []
        writing = folder / "writing"
        writing.mkdir(parents=True)
        if ahead:
            self.ahead = write_ahead(writing, max_bytes=_MAX_BYTES)
        with Desk(writing, max_bytes=_MAX_BYTES) as desk:
            for size in random.Random(1).choices(_SIZES, k=70):  # noqa: S311  # always the same
                self.blocks += chain(1, after=self.blocks[-1] if self.blocks else None, size=size)
                desk.commit(self.blocks[-1:])
                self.log_ends.append(len(read_log(writing / "00000001.db")))
            until((writing / "spare").exists, "a file is made ahead")
            for file in writing.iterdir():
                if not file.name.startswith("spare-"):  # which comes and goes
                    shutil.copy(file, folder)
        shutil.rmtree(writing)
        assert self.log.stat().st_size == (self.ahead or self.log_ends[-1])
        assert [path.name for path in folder.glob("*.db")] == ["00000001.db"]
        if checkpointed:
            segment = Segment(self.database)
            segment.truncate_log()
            segment.close()
            assert self.log.stat().st_size == 0

    @property
    def database(self) -> Path:
        """The segment."""
        return self.folder / "00000001.db"

    @property
    def log(self) -> Path:
        """Its log."""
        return self.folder / "00000001.db-wal"

    def copy(self, into: Path) -> "Damaged":
        """The same files, to be damaged."""
        shutil.copytree(self.folder, into)
        return Damaged(into)


class Damaged:
    """A copy to break, and what is left of it after a restart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "00000001.db"
        self.log = folder / "00000001.db-wal"

    def cut_log(self, at: int, size: int) -> None:
        """As if nothing of it had been written from there on; it was made so long before."""
        os.truncate(self.log, at)
        if at < size:
            os.truncate(self.log, size)

    def restart(self, original: Original) -> list[int]:
        """Start on it and write on; the ids of the blocks that were lost.

        Whatever else comes out must be what went in, and the numbers of the rest must add up.
        """
        with Desk(self.folder) as desk:
            later = chain(2, after=original.blocks[-1])
            desk.commit(later)
            found = read_all(self.folder)
        good = [block for block in found if isinstance(block, Block)]
        lost = [block for block in found if isinstance(block, DamagedBlock)]
        assert same(good, [b for b in original.blocks + later if b.id not in {d.id for d in lost}])
        assert [b.id for b in found] == list(range(found[0].id, later[-1].id + 1))
        missing = found[0].id - 1
        assert sum(block.records for block in lost) == _RECORDS * len(lost)
        return list(range(1, missing + 1)) + [block.id for block in lost]

    @property
    def kept(self) -> set[str]:
        """What was kept aside."""
        return {file.name for file in (self.folder / "damaged").glob("*")}


def flip(file: Path, bit: int) -> None:
    """Turn one bit over."""
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


@pytest.fixture(scope="module", params=[False, True], ids=["log that grew", "log written ahead"])
def in_log(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Original:
    """A journal that was killed: everything is in its log."""
    return Original(tmp_path_factory.mktemp("original") / "log", ahead=request.param)


@pytest.fixture(scope="module")
def written_ahead(tmp_path_factory: pytest.TempPathFactory) -> Original:
    """The same, with zeros behind the last commit."""
    return Original(tmp_path_factory.mktemp("original") / "ahead", ahead=True)


@pytest.fixture(scope="module")
def in_database(tmp_path_factory: pytest.TempPathFactory) -> Original:
    """A journal whose log was copied into its database."""
    return Original(tmp_path_factory.mktemp("original") / "database", checkpointed=True)


@pytest.mark.parametrize("seed", range(_PLACES))
def test_a_log_that_was_cut_keeps_all_commits_before_the_cut(
    in_log: Original, tmp_path: Path, seed: int
) -> None:
    """Wherever it was cut; and the journal goes on behind them.

    In a log written ahead zeros follow, and the commit that was cut may have all that its block needs.
    """
    cut = random.Random(seed).randrange(in_log.log_ends[-1])  # noqa: S311
    damaged = in_log.copy(tmp_path / "journal")
    damaged.cut_log(cut, in_log.ahead)
    whole = sum(end <= cut for end in in_log.log_ends)
    with Desk(damaged.folder) as desk:
        has_more = bool(in_log.ahead) and desk.journal.tail.block == whole + 1
        whole += has_more
        assert desk.journal.tail.block == whole
        assert not damaged.kept or has_more or not in_log.ahead
        later = chain(2, after=in_log.blocks[whole - 1] if whole else None)
        desk.commit(later)
        assert same(read_all(damaged.folder), in_log.blocks[:whole] + later)


@pytest.mark.parametrize("seed", range(_PLACES))
def test_a_wrong_bit_in_the_log_costs_at_most_what_was_committed_with_it(
    in_log: Original, tmp_path: Path, seed: int
) -> None:
    """What came behind it is delivered too, though SQLite stops there."""
    bit = random.Random(seed).randrange(in_log.log_ends[-2] * 8)  # noqa: S311
    damaged = in_log.copy(tmp_path / "journal")
    flip(damaged.log, bit)
    lost = damaged.restart(in_log)
    commit = next(i for i, end in enumerate(in_log.log_ends, 1) if bit // 8 < end)
    assert set(lost) <= {commit}
    assert damaged.kept >= {"00000001.db", "00000001.db-wal"}


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("count", [1, 6])
def test_without_the_mark_of_its_last_commit_a_sealed_log_loses_nothing(
    tmp_path: Path, count: int, *, ahead: bool
) -> None:
    """The next segment tells that blocks are missing, and they are still there."""
    blocks, damaged = chain(count + 3, size=1_200_000 // count), tmp_path / "damaged"
    journal = tmp_path / "journal"
    journal.mkdir()
    if ahead:
        write_ahead(journal)
    with Desk(journal) as desk:
        desk.journal.passed("sink", 0)
        for block in blocks[:2]:
            desk.commit([block])
        with desk.hold():
            desk.submit(blocks[2 : count + 2])
        until(lambda: len(desk.committed) == count + 2, "the group's commit")
        desk.commit(blocks[count + 2 :])
        shutil.copytree(journal, damaged, ignore=shutil.ignore_patterns("spare*"))
    log = damaged / f"{desk.segments()[-2]}-wal"
    content = bytearray(log.read_bytes())
    last = len(read_log(damaged / desk.segments()[-2])) - FRAME_BYTES
    assert content[last + 4 : last + 8] != bytes(4)
    content[last + 4 : last + 8] = bytes(4)
    log.write_bytes(content)
    with Desk(damaged):
        assert same(read_all(damaged), blocks)


@pytest.mark.parametrize("seed", range(_PLACES // 2))
def test_a_wrong_bit_behind_a_log_written_ahead_costs_nothing(
    written_ahead: Original, tmp_path: Path, seed: int
) -> None:
    """It may look like a commit behind a damaged place."""
    bit = random.Random(seed).randrange(written_ahead.log_ends[-1] * 8, written_ahead.ahead * 8)  # noqa: S311
    damaged = written_ahead.copy(tmp_path / "journal")
    flip(damaged.log, bit)
    assert damaged.restart(written_ahead) == []


@pytest.mark.parametrize("place", range(32))
def test_a_wrong_bit_in_the_head_of_the_log_costs_nothing(
    in_log: Original, tmp_path: Path, place: int
) -> None:
    """Though SQLite takes such a log for an empty one."""
    damaged = in_log.copy(tmp_path / "journal")
    flip(damaged.log, place * 8 + place % 8)
    assert damaged.restart(in_log) == []


@pytest.mark.parametrize("seed", range(_PLACES))
def test_a_wrong_bit_in_the_database_costs_at_most_the_blocks_on_its_page(
    in_database: Original, tmp_path: Path, seed: int
) -> None:
    """Mostly it is inside one row, and costs that one."""
    bit = random.Random(seed).randrange(in_database.database.stat().st_size * 8)  # noqa: S311
    damaged = in_database.copy(tmp_path / "journal")
    flip(damaged.database, bit)
    lost = damaged.restart(in_database)
    assert len(lost) <= 7
    if lost:
        assert "00000001.db" in damaged.kept


@pytest.mark.parametrize("seed", range(_PLACES))
def test_a_wrong_bit_in_the_head_of_a_page_costs_at_most_that_page(
    in_database: Original, tmp_path: Path, seed: int
) -> None:
    """There SQLite keeps what holds its tree together; blocks elsewhere don't depend on it."""
    picked = random.Random(seed)  # noqa: S311
    page = picked.choice([1, 2, 3, *range(4, in_database.database.stat().st_size // PAGE_BYTES + 1)])
    head = picked.randrange(108 if page == 1 else 12)
    if page == 1 and head in range(60, 64):
        pytest.skip("the schema's version: refused, as it would be with another version's journal")
    damaged = in_database.copy(tmp_path / "journal")
    flip(damaged.database, ((page - 1) * PAGE_BYTES + head) * 8 + picked.randrange(8))
    lost = damaged.restart(in_database)
    on_the_page = sum(min(len(block.payload), 1003) for block in in_database.blocks if block.id in lost)
    assert on_the_page < PAGE_BYTES  # of a long row a page holds at least so much


@pytest.mark.parametrize("size", [0, 1, PAGE_BYTES - 1])
def test_a_database_cut_to_nothing_costs_no_block_of_its_log(
    in_log: Original, tmp_path: Path, size: int
) -> None:
    """SQLite would delete the log beside an empty database."""
    damaged = in_log.copy(tmp_path / "journal")
    os.truncate(damaged.database, size)
    assert damaged.restart(in_log) == []
    assert damaged.kept >= {"00000001.db", "00000001.db-wal"}


def test_a_segment_that_seems_never_begun_is_not_deleted_with_its_blocks(
    in_database: Original, tmp_path: Path
) -> None:
    """One wrong bit in a page's count of rows makes SQLite read an empty table."""
    damaged = in_database.copy(tmp_path / "journal")
    count = _root_page(damaged.database, "segment") * PAGE_BYTES + 4
    flip(damaged.database, count * 8)
    assert damaged.restart(in_database) == []
    assert "00000001.db" in damaged.kept


@pytest.mark.parametrize("clock", [b"", b"\xc1", b"\xa1\xff", b"\x93\xa1a\x00\x00"])
def test_a_head_whose_values_are_wrong_costs_no_block(
    in_database: Original, tmp_path: Path, clock: bytes
) -> None:
    """What can't be read of it is made anew from the blocks."""
    damaged = in_database.copy(tmp_path / "journal")
    database = apsw.Connection(str(damaged.database))
    database.execute("UPDATE segment SET clock = ?", (clock,))
    database.close()
    assert damaged.restart(in_database) == []


@pytest.mark.parametrize("place", [0, 3, 4, PAGE_BYTES, PAGE_BYTES + 4, 2 * PAGE_BYTES + 3])
def test_a_damaged_file_made_ahead_is_not_written_to(in_log: Original, tmp_path: Path, place: int) -> None:
    """What would be acknowledged there could not be found again."""
    damaged = in_log.copy(tmp_path / "journal")
    flip(damaged.folder / "spare", place * 8 + 1)
    assert damaged.restart(in_log) == []


def test_a_lock_that_is_no_text_is_refused(in_database: Original, tmp_path: Path) -> None:
    """In words, as one that is no JSON."""
    damaged = in_database.copy(tmp_path / "journal")
    (damaged.folder / "lock").write_bytes(b'{"journal":"\xb5","node":3}')
    with pytest.raises(JournalError, match="does not say whose journal it is"):
        Desk(damaged.folder)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of several segments, all but the newest copied from their logs; nobody has restarted it."""
    folder = tmp_path_factory.mktemp("original") / "settled"
    with Desk(folder) as desk:
        for each in chain(20, size=200_000):
            desk.commit([each])
    for path in segment_paths(folder)[:-1]:
        segment = Segment(path)
        segment.truncate_log()
        segment.close()
    return folder


@pytest.mark.parametrize("page", [1, 2])
@pytest.mark.parametrize("seed", range(_PLACES // 2))
def test_a_wrong_bit_in_the_head_of_a_segment_costs_no_block_while_the_server_runs(
    settled: Path, tmp_path: Path, seed: int, page: int
) -> None:
    """What SQLite can't begin with any more is saved when a sink comes there, not passed over."""
    journal = tmp_path / "journal"
    shutil.copytree(settled, journal)
    picked = random.Random(seed)  # noqa: S311
    damaged = segment_paths(journal)[picked.randrange(3)]
    before = {path.name for path in segment_paths(journal) if path < damaged}
    place = picked.choice(
        [0, *range(16, 110)] if page == 1 else [*range(8), *range(PAGE_BYTES - 120, PAGE_BYTES)]
    )
    flip(damaged, ((page - 1) * PAGE_BYTES + place) * 8 + picked.randrange(8))
    assert same(read_all(journal), chain(20, size=200_000))
    assert not {file.name for file in (journal / "damaged").glob("*")} & before


@pytest.mark.parametrize("value", ["first_block", "first_record"])
@pytest.mark.parametrize("change", [-64, -1, 1, 4096])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_head_with_another_number_costs_no_block(
    settled: Path, tmp_path: Path, number: int, change: int, value: str
) -> None:
    """Its first block tells, wherever a reader begins, and after a restart."""
    journal = tmp_path / "journal"
    shutil.copytree(settled, journal)
    damaged = segment_paths(journal)[number]
    database = apsw.Connection(str(damaged))
    database.execute(f"UPDATE segment SET {value} = {value} + {change}")  # noqa: S608
    database.close()
    blocks = chain(20, size=200_000)
    assert JournalReader(journal).first_block() == 1
    for after in range(0, 20, 3):
        assert same(read_all(journal, after), blocks[after:])
    assert [file.name for file in (journal / "damaged").glob("*.db")] == [damaged.name]
    with Desk(journal) as desk:
        desk.commit(chain(1, after=blocks[-1]))
        assert same(read_all(journal), blocks + desk.committed)


def test_a_segment_whose_count_of_heads_is_wrong_costs_no_block_while_the_server_runs(
    settled: Path, tmp_path: Path
) -> None:
    """SQLite reads an empty table then, and no error."""
    journal = tmp_path / "journal"
    shutil.copytree(settled, journal)
    damaged = segment_paths(journal)[1]
    flip(damaged, (_root_page(damaged, "segment") * PAGE_BYTES + 4) * 8)
    assert same(read_all(journal), chain(20, size=200_000))
    assert (journal / "damaged" / damaged.name).exists()


def test_a_log_that_is_copied_into_its_database_meanwhile_costs_no_block(
    in_log: Original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper does that some seconds after a segment was sealed, whoever reads it."""
    journal = in_log.copy(tmp_path / "journal")

    def copied_behind(path: Path) -> bytes:
        content = read_file(path)
        segment = Segment(path)
        segment.truncate_log()
        segment.close()
        return content

    monkeypatch.setattr("ingest.journal.salvage.read_file", copied_behind)
    assert same(list(salvage(journal.database).values()), in_log.blocks)
    assert not journal.log.stat().st_size


def test_without_file_descriptors_a_sink_passes_nothing_over(
    settled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that can't be opened just now is no damaged one."""
    journal = tmp_path / "journal"
    shutil.copytree(settled, journal)
    closed, failures = segment_paths(journal)[1], iter([JournalFullError("no descriptors")])
    begin = Segment.__init__

    def fails_once(segment: Segment, path: Path, **options: Any) -> None:
        if path == closed:
            for failure in failures:
                raise failure
        begin(segment, path, **options)

    monkeypatch.setattr(Segment, "__init__", fails_once)
    reader = JournalReader(journal)
    with pytest.raises(JournalFullError):
        reader.read(0, MIB)
    found = reader.read(0, 100 * MIB)
    reader.close()
    assert same(found, chain(20, size=200_000))
    assert not (journal / "damaged").exists()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A disk that everybody reads from, good so far."""
    with Disk(default=True) as disk:
        disk.break_reading(monkeypatch)
        yield disk


@pytest.mark.parametrize("page", [*range(12), 50, 125])
def test_a_sector_that_can_not_be_read_costs_only_the_blocks_on_it(
    settled: Path, tmp_path: Path, disk: Disk, page: int
) -> None:
    """The sink goes on behind it, and so does a start."""
    blocks, journal = chain(20, size=200_000), tmp_path / "journal"
    shutil.copytree(settled, journal)
    damaged = segment_paths(journal)[1]
    disk.unreadable[damaged] = range(page * PAGE_BYTES + 4096, page * PAGE_BYTES + 4608)
    found = read_all(journal)
    lost = [block for block in found if isinstance(block, DamagedBlock)]
    assert [block.id for block in found] == list(range(1, 21))
    assert same([block for block in found if isinstance(block, Block)], _without(blocks, lost))
    assert len(lost) <= 1
    assert sum(block.records for block in lost) == _RECORDS * len(lost)
    with Desk(journal):
        assert [block.id for block in read_all(journal)] == list(range(1, 21))


@pytest.mark.parametrize("at", [0, 100, 40_000, 500_000])
def test_a_sector_of_a_log_that_can_not_be_read_stops_no_start(
    in_log: Original, tmp_path: Path, disk: Disk, at: int
) -> None:
    """What is behind it was acknowledged too."""
    damaged = in_log.copy(tmp_path / "journal")
    disk.unreadable[damaged.log] = range(at, at + 512)
    with Desk(damaged.folder) as desk:
        disk.unreadable.clear()
        later = chain(1, after=in_log.blocks[-1])
        desk.commit(later)
        found = read_all(damaged.folder)
    lost = [block for block in found if isinstance(block, DamagedBlock)]
    first = found[0].id - 1
    assert same(
        [block for block in found if isinstance(block, Block)],
        _without(in_log.blocks[first:] + later, lost),
    )
    assert first + len(lost) <= 8  # as many commits as there can be on one sector's page
    assert damaged.kept >= {"00000001.db", "00000001.db-wal"}


def test_a_damaged_segment_is_kept_aside_where_there_are_no_hard_links(
    settled: Path, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a card that other systems read too; what can be read of it is copied."""
    journal = tmp_path / "journal"
    shutil.copytree(settled, journal)
    damaged = segment_paths(journal)[1]
    bad = range(5 * PAGE_BYTES, 5 * PAGE_BYTES + 512)
    original = bytearray(damaged.read_bytes())
    original[bad.start : bad.start + 4096] = bytes(4096)
    disk.unreadable[damaged] = bad
    monkeypatch.setattr(os, "link", _refused)
    assert [block.id for block in read_all(journal)] == list(range(1, 21))
    assert (journal / "damaged" / damaged.name).read_bytes() == original


def test_a_damaged_segment_that_can_not_be_kept_makes_the_sink_wait(
    settled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says why, as of every trouble with the journal; nothing is passed over meanwhile."""
    journal = tmp_path / "journal"
    shutil.copytree(settled, journal)
    flip(segment_paths(journal)[1], 0)
    monkeypatch.setattr(Path, "mkdir", _refused)
    reader = JournalReader(journal)
    with pytest.raises(JournalError, match="Operation not permitted"):
        reader.read(0, 100 * MIB)
    monkeypatch.undo()
    assert same(reader.read(0, 100 * MIB), chain(20, size=200_000))
    reader.close()


def _refused(*_: object, **_options: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def _without(blocks: list[Block], lost: list[DamagedBlock]) -> list[Block]:
    return [block for block in blocks if block.id not in {each.id for each in lost}]


def _root_page(database: Path, table: str) -> int:
    """The number of a table's first page, from 0."""
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).get
    connection.close()
    return int(page) - 1
