"""A copy that is interrupted goes on, and one that must not be is refused."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from storage.cassandra.connect import Connected
from storage.cassandra.flight import Flight, Refused
from storage.cassandra.tables import use
from storage.copying import Step, copy_tables
from storage.copying.marks import Mark, Marks
from storage.copying.target import Target
from storage.errors import (
    CursorMovedError,
    DatabaseRestartedError,
    NodeClaimedError,
    StorageError,
    StoreBusyError,
    StoreUnavailableError,
)
from storage.rows import Rows
from storage.settings import RejectQuota, SqliteSettings, StorageSettings
from tests.storage.building import record
from tests.storage.moving import Shop, Stopped, accept_one, everything, forget_mark, ignore, stops_at
from tests.storage.stores import SqliteStore

pytestmark = pytest.mark.cassandra


def test_an_interrupted_copy_goes_on_where_it_was(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after its first step, again after its second, and so on: it never copies a row twice."""
    readings, seqs = Target.readings, list[int]()

    def counted(self: Target, rows: Rows) -> None:
        seqs.extend(rows.seqs.tolist())
        readings(self, rows)

    monkeypatch.setattr(Target, "readings", counted)
    for step in range(1, 40):
        try:
            copied = shop.copy(stops_at(step))
            break
        except Stopped:
            continue
    assert step > 3
    assert copied.rows["readings"] == len(seqs) == len(set(seqs))
    shop.check()
    shop.check_claims()


def test_a_cluster_that_fails_costs_nothing_but_time(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of what was under way was written; all of it is written again, from the beginning."""
    deliver = Flight.deliver
    for call in range(1, 40):
        left = iter([True] * call)

        def half(self: Flight, statements: Iterator[Any], left: Iterator[bool] = left) -> list[Refused]:
            if next(left, False):
                return deliver(self, statements)
            deliver(self, list(statements)[::2])
            raise StoreUnavailableError("gone")

        monkeypatch.setattr(Flight, "deliver", half)
        try:
            shop.copy()
            break
        except StoreUnavailableError:
            monkeypatch.setattr(Flight, "deliver", deliver)
            forget_mark(shop)
    assert call > 5
    shop.check()
    shop.check_claims()


def test_a_source_that_grew_while_the_copy_was_interrupted_is_copied_whole(shop: Shop) -> None:
    """Also where rows came for machines that the copy had passed."""
    with pytest.raises(Stopped):
        shop.copy(stops_at(3))
    shop.write(shop.source, shop.life(first=6))
    accept_one(shop.source)
    shop.copy()
    shop.check()
    shop.check_claims()


def test_a_source_that_is_written_meanwhile_is_not_handed_over(shop: Shop) -> None:
    """Nobody knows what was missed: the next run finds it."""

    def write(step: Step) -> None:
        if step.table == "ledger" and step.done == step.total:
            shop.write(shop.source, [shop.machinery.block([(5, record("E0001"))])])

    with pytest.raises(StoreBusyError, match="was written to"):
        shop.copy(write)
    shop.copy()
    shop.check()
    shop.check_claims()


def test_no_server_begins_on_half_of_the_rows(shop: Shop) -> None:
    """It is told what to do; so is somebody who would copy into what another journal has written."""
    with pytest.raises(Stopped):
        shop.copy(stops_at(2))
    with (
        closing(shop.target.writer()) as writer,
        pytest.raises(NodeClaimedError, match="run `headrace db copy` again"),
    ):
        writer.claim(shop.machinery.node, shop.journal, adopt=False)


def test_what_another_has_written_is_never_copied_over(shop: Shop) -> None:
    """Another journal under the same node, or a server that went on with our own."""
    with closing(shop.target.writer()) as writer:
        writer.claim(shop.machinery.node, "another", adopt=False)
    with pytest.raises(NodeClaimedError, match="belongs to journal another"):
        shop.copy()
    assert everything(shop.target) == ([], {}, [], [], [])


def test_two_databases_that_both_went_on_are_not_mixed(shop: Shop) -> None:
    """The cluster was written after the copy, and then the embedded database too."""
    shop.copy()
    block = shop.machinery.block([(5, record("E0001"))])
    for store in (shop.target, shop.source):
        shop.write(store, [block])
    before = everything(shop.target)
    with pytest.raises(CursorMovedError, match="a server has written"):
        shop.copy()
    assert everything(shop.target) == before


def test_the_lock_that_is_held_must_be_that_of_the_source(shop: Shop) -> None:
    """Else its server could be running."""
    with pytest.raises(NodeClaimedError, match="was written from journal"):
        copy_tables(shop.storage, "another", ignore)


def test_a_source_that_nobody_has_written_is_nothing_to_copy(
    tmp_path: Path, quota: RejectQuota, shop: Shop
) -> None:
    """The embedded database was made, and that is all."""
    empty = SqliteStore(tmp_path, quota)
    empty.path = tmp_path / "empty.db"
    empty.writer().close()
    storage = StorageSettings(sqlite=SqliteSettings(path=str(empty.path)), cassandra=shop.storage.cassandra)
    with pytest.raises(StorageError, match="nothing to copy"):
        copy_tables(storage, shop.journal, ignore)


def test_a_mark_is_saved_when_the_cluster_cannot_forget_it(shop: Shop) -> None:
    """Not before it has stood, and never when a node was started anew."""
    clock = [0.0]
    connected = use(Connected(shop.storage.cassandra))
    with closing(connected):
        key = uuid4().hex
        marks = Marks(connected, key, wait_s=20.0, now=lambda: clock[0], sleep=ignore)
        assert marks.load() is None
        mark = Mark(fingerprint="a", until=0, stored=0)
        marks.reached(mark)
        clock[0] = 19.9
        marks.reached(Mark(fingerprint="b", until=0, stored=0))
        assert Marks(connected, key).load() is None
        clock[0] = 20.0
        marks.reached(Mark(fingerprint="c", until=0, stored=0))
        assert Marks(connected, key).load() == mark
        found = connected.generations()
        marks._connected.generations = lambda **_: {host: at + 1 for host, at in found.items()}  # type: ignore[method-assign]
        clock[0] = 60.0
        with pytest.raises(DatabaseRestartedError):
            marks.reached(mark)
