"""A journal that lost its end and went on without the tables: no new block is taken for one they know."""

import io
from contextlib import closing
from pathlib import Path

import pytest

from ingest.errors import JournalError
from ingest.journal import require_free_numbers
from ingest.journal.segment import SegmentHead, delete, write_segment
from ingest.sink import SinkTask, _Orders, _run_once
from parser.block import Block
from storage.base import Claim, Cursor, DamagedBlock
from storage.factory import open_writer
from storage.settings import SqliteSettings, StorageSettings
from tests.ingest.building import NODE, Desk, chain, read_all, same

pytestmark = pytest.mark.fault

_OLD, _NEW = chain(8), 30
_KNOWN = Claim(Cursor("journal", 20), 100, 100, 20)
"""What the tables know: twelve blocks and 76 records more than the journal has."""


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A journal that was started twice without the tables, and wrote several segments."""
    folder = tmp_path / "journal"
    with Desk(folder) as desk:
        desk.commit(_OLD)
    last = _OLD[-1]
    for _ in range(2):
        with Desk(folder) as desk:
            desk.journal.goes_on_alone()
            for each in chain(_NEW // 2, after=last, size=100_000):
                desk.commit([each])
                last = each
    return folder


def _written() -> list[Block]:
    blocks = chain(_NEW // 2, after=_OLD[-1], size=100_000)
    return blocks + chain(_NEW // 2, after=blocks[-1], size=100_000)


def _is_renumbered(folder: Path) -> bool:
    """Whether all that was written without the tables follows what they know, and is otherwise the same."""
    old, new = read_all(folder)[:8], read_all(folder, after=20)
    return (
        same(old, _OLD)
        and [block.id for block in new] == list(range(21, 21 + _NEW))
        and [block.first_record for block in new] == list(range(100, 100 + 3 * _NEW, 3))
        and [block.payload for block in new if isinstance(block, Block)] == [b.payload for b in _written()]
    )


@pytest.mark.parametrize(
    "claim", [Claim(None, 0), Claim(Cursor("journal", 8), 24, 24, 8), Claim(Cursor("journal", 3), 9, 9, 8)]
)
def test_numbers_that_the_tables_do_not_know_are_good(alone: Path, claim: Claim) -> None:
    """Once they were compared nobody does it again, as from then on the tables get to know them."""
    require_free_numbers(alone, claim)
    require_free_numbers(alone, _KNOWN)
    with Desk(alone) as desk:
        assert not desk.journal.renumber(_KNOWN)
        assert same(read_all(alone), _OLD + _written())


@pytest.mark.parametrize(
    "claim", [_KNOWN, Claim(Cursor("journal", 9), 24, 24, 9), Claim(Cursor("journal", 3), 25, 9, 3)]
)
def test_numbers_that_are_taken_are_said(alone: Path, claim: Claim) -> None:
    """Also by a block without records, and by one that Cassandra may have forgotten the cursor of."""
    for _ in range(2):
        with pytest.raises(JournalError, match="its blocks from 9 on have numbers that the tables know"):
            require_free_numbers(alone, claim)


def test_a_sink_reports_no_progress_over_numbers_that_are_taken(alone: Path, tmp_path: Path) -> None:
    """The journal would delete what it takes for passed."""
    storage = StorageSettings(sqlite=SqliteSettings(path=str(tmp_path / "tables.db")))
    with closing(open_writer(storage)) as writer:
        writer.claim(NODE, "journal", adopt=False)
        writer.write(None, [DamagedBlock(20, NODE, 0, 100, 1_700_000_000_000_000)], "journal")
    task, said = SinkTask(str(alone), "journal", NODE, storage), io.BytesIO()
    assert "has lost its end" in _run_once(task, _Orders(io.BytesIO()), said)
    assert not said.getvalue()


def test_taken_numbers_are_given_anew(alone: Path) -> None:
    """Above all that the tables know; and once."""
    with Desk(alone) as desk:
        assert desk.journal.renumber(_KNOWN)
    with Desk(alone) as desk:
        assert desk.journal.tail.block == 20 + _NEW
        assert desk.journal.tail.next_record == 100 + 3 * _NEW
        assert not desk.journal.renumber(_KNOWN)
        assert _is_renumbered(alone)
    require_free_numbers(alone, _KNOWN)


@pytest.mark.parametrize("written", range(4))
def test_a_renumbering_that_was_cut_short_has_done_nothing(
    alone: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """Wherever it was; the next start begins it anew."""
    count = iter(range(written))

    def killed(path: Path, journal: str, blocks: list[Block]) -> SegmentHead:
        if next(count, None) is None:
            raise KeyboardInterrupt
        return write_segment(path, journal, blocks)

    with Desk(alone) as desk:
        monkeypatch.setattr("ingest.journal.renumbering.write_segment", killed)
        with pytest.raises(KeyboardInterrupt):
            desk.journal.renumber(_KNOWN)
        monkeypatch.undo()
    with Desk(alone) as desk:
        assert same(read_all(alone), _OLD + _written())
        assert desk.journal.renumber(_KNOWN)
    with Desk(alone):
        assert _is_renumbered(alone)


@pytest.mark.parametrize("replaced", range(4))
def test_a_renumbering_that_was_done_is_finished_by_the_next_start(
    alone: Path, monkeypatch: pytest.MonkeyPatch, replaced: int
) -> None:
    """Wherever a kill met it when it put the new files in the place of the old."""
    count = iter(range(replaced))

    def killed(path: Path) -> None:
        if next(count, None) is None:
            path.unlink()
            raise KeyboardInterrupt
        delete(path)

    with Desk(alone) as desk:
        assert desk.journal.renumber(_KNOWN)
    monkeypatch.setattr("ingest.journal.renumbering.delete", killed)
    with pytest.raises(KeyboardInterrupt):
        Desk(alone)
    monkeypatch.undo()
    with Desk(alone):
        assert _is_renumbered(alone)
        assert not list(alone.glob("*.renumbered*"))
