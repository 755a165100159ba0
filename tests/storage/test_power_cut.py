"""Fault 3 for the tables: the power goes while they are written, and what was committed is there."""

from pathlib import Path
from random import Random

import apsw
import pytest

from storage.errors import StorageError
from storage.reconcile import reconcile
from storage.sqlite import connect
from storage.sqlite.books import SqliteBooks
from storage.sqlite.writer import SqliteTableWriter
from tests.storage.building import JOURNAL, Machinery, opened, record
from tests.support.powercut import PowerCut

SEED = 23
BLOCKS = 60
CUTS = 80


class Cuts:
    """Looks, at random moments of a run, at what a power cut would leave."""

    def __init__(self, folder: Path, random: Random) -> None:
        self.folder = folder
        self.committed = 0
        self.after_cut: list[tuple[int, Path]] = []
        """How many blocks were committed at a cut, and what the disk held after it."""
        self._random = random

    def look(self, disk: PowerCut) -> None:
        """Cut, perhaps, at this moment."""
        if len(self.after_cut) < CUTS and self._random.random() < 0.008:
            into = self.folder / f"cut-{len(self.after_cut)}"
            into.mkdir()
            self.after_cut.append((self.committed, into))
            disk.survivors(self.folder, into, self._random)


@pytest.fixture(autouse=True)
def _checkpoints_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "_WAL_BYTES", 80 * 4_096)


def _run(folder: Path, synchronous: str) -> list[tuple[int, Path]]:
    random = Random(SEED)  # noqa: S311 - chance that can be repeated is what is wanted here
    cuts = Cuts(folder, random)
    machinery = Machinery()
    with PowerCut() as disk:
        disk.watch(lambda: cuts.look(disk))
        writer = SqliteTableWriter(folder / "headrace.db")
        writer._connection.pragma("synchronous", synchronous)
        writer.claim(machinery.node, JOURNAL, adopt=False)
        for _ in range(BLOCKS):
            cursor = machinery.cursor
            sent = b"".join(record(f"E{random.randrange(30):04d}") for _ in range(60))
            block = machinery.block([(1, sent + b"bad#")], events=(opened(1),))
            writer.write(cursor, [block], JOURNAL)
            cuts.committed = block.block.id
        disk.watch(None)
        writer.close()
    return cuts.after_cut


def _blocks_found(folder: Path) -> int:
    """How many blocks the tables hold after the cut, seen to be whole.

    Raises:
        StorageError: the tables can't be opened.
    """
    path = folder / "headrace.db"
    writer = SqliteTableWriter(path)
    cursor = writer.claim(3, JOURNAL, adopt=False).cursor
    assert writer._connection.pragma("integrity_check") == "ok"
    writer.close()
    books = SqliteBooks(path)
    found = reconcile(books, waiting=None)
    books.close()
    blocks = cursor.block if cursor else 0
    assert (found.findings, found.readings, found.rejected_records) == ([], blocks * 60, blocks)
    return blocks


@pytest.mark.fault
def test_committed_blocks_survive_a_power_cut(tmp_path: Path) -> None:
    """Whenever the power goes, every committed block is there, whole, and its cursor with it."""
    cuts = _run(tmp_path, "full")
    assert len(cuts) > CUTS // 2
    for committed, folder in cuts:
        assert committed <= _blocks_found(folder) <= committed + 1


@pytest.mark.fault
def test_the_power_cut_is_a_real_one(tmp_path: Path) -> None:
    """Without syncs the same run loses blocks: the disk of this test does forget."""
    lost = 0
    for committed, folder in _run(tmp_path, "off"):
        try:
            lost += _blocks_found(folder) < committed
        except (AssertionError, StorageError, apsw.Error):
            lost += 1
    assert lost
