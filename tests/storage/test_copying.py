"""What is copied from the embedded database to a cluster is the same there, whatever interrupts the copy."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from parser.framing import Ending
from parser.parsed import ParsedBlock
from parser.verdicts import Accepted
from storage.base import MINUTE_MS, DamagedBlock, ReadingStore
from storage.cassandra.connect import Connected
from storage.cassandra.flight import Flight, Refused
from storage.copying import Copied, Step, copy_tables
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
from storage.reconcile import reconcile
from storage.rows import Rows
from storage.settings import CassandraSettings, RejectQuota, SqliteSettings, StorageSettings
from storage.sqlite import purge
from tests.storage.building import NOON, STARTED, Machinery, closed, opened, record
from tests.storage.stores import CassandraStore, CheckedStore, SqliteStore

pytestmark = pytest.mark.cassandra

EVER = 1 << 62
DEVICES = ("E0001", "E0002", "~", "x" * 64)
HOUR_MS = 60 * MINUTE_MS
PAGE_ROWS = 8

Blocks = list[ParsedBlock | DamagedBlock]
Tell = Callable[[Step], None]


class Shop:
    """An embedded database that a server has written, and an empty cluster."""

    def __init__(self, folder: Path, quota: RejectQuota, cluster: CassandraSettings) -> None:
        self.machinery = Machinery(journal=uuid4().hex)
        self.source = SqliteStore(folder, quota)
        self.target = CassandraStore(folder, quota, cluster)
        self.storage = StorageSettings(
            sqlite=SqliteSettings(path=str(self.source.path)), cassandra=cluster, rejects=quota
        )
        self.write(self.source, self.life())

    @property
    def journal(self) -> str:
        """The journal of both."""
        return self.machinery.journal

    def life(self, first: int = 1) -> Blocks:
        """Some hours of five connections: readings, rejects, empty records, damage; one stays open."""
        block, damaged = self.machinery.block, self.machinery.damaged
        blocks: Blocks = [block(events=(STARTED,))]
        for number in range(first, first + 5):
            sent = b"".join(record(device, number + 0.5) for device in DEVICES[: number % 5 + 1])
            blocks.append(block([(number, sent * 3 + b"##" + b"bad#" * number)], events=(opened(number),)))
            blocks.append(block([(number, b"E0002,1,2,3,4,x#" + sent)], later_ms=MINUTE_MS // 2))
            blocks.append(damaged(2, later_ms=HOUR_MS))
            if number < first + 4:
                end = (closed(number, 500),) if number % 2 else ()
                ends = [(number, Ending.RESET)] if number % 2 else ()
                blocks.append(block([(number, b"E0001,1,")], events=end, ends=ends))
        blocks.append(block([(first + 4, record("E0001") + b"bad#")]))
        return blocks

    def write(self, store: CheckedStore, blocks: Blocks) -> None:
        """What the server's sink does."""
        with closing(store.writer()) as writer:
            claim = writer.claim(self.machinery.node, self.journal, adopt=False)
            writer.write(claim.cursor, blocks, self.journal)

    def copy(self, tell: Tell | None = None, *, keep_days: float | None = None) -> Copied:
        """Run the copy; the cluster is believed whatever it says."""
        storage = StorageSettings(
            sqlite=self.storage.sqlite,
            cassandra=self.storage.cassandra,
            rejects=self.storage.rejects,
            keep_days=keep_days,
        )
        return copy_tables(storage, self.journal, tell or _ignore, page_rows=PAGE_ROWS, wait_s=0.0)

    def check(self) -> None:
        """Both say the same to whoever asks, and add up."""
        assert _everything(self.target) == _everything(self.source)
        assert findings(self.target) == []

    def check_claims(self) -> None:
        """Both let the journal go on from the same place."""
        claims = []
        for store in (self.source, self.target):
            with closing(store.writer()) as writer:
                claims.append(writer.claim(self.machinery.node, self.journal, adopt=False))
        assert claims[0] == claims[1]
        assert claims[0].cursor == self.machinery.cursor
        assert claims[0].next_record == claims[0].cursor_record == self.machinery.record


@pytest.fixture
def shop(tmp_path: Path, quota: RejectQuota, cassandra_settings: CassandraSettings) -> Shop:
    return Shop(tmp_path, quota, cassandra_settings)


def test_everything_is_the_same_afterwards(shop: Shop) -> None:
    """Rows, books and cursor; and the books add up."""
    copied = shop.copy()
    assert not copied.already
    assert copied.rows == {
        "readings": 57,
        "latest_readings": 4,
        "rejected_records": 9,
        "connections": 5,
        "ledger": 8,
    }
    shop.check()
    shop.check_claims()
    connected = Connected(shop.storage.cassandra).use()
    for table in ("ledger", "connections"):
        counted = connected.execute(f"SELECT next_record FROM {table}")  # noqa: S608  # ours
        assert set(counted) == {(shop.machinery.record,)}
    connected.close()


def test_the_next_block_is_written_there_as_it_would_have_been_here(shop: Shop) -> None:
    """Also in the minute and the connections that were open, and after a new start."""
    shop.copy()
    blocks = [shop.machinery.block([(5, record("E0001") + b"bad#" * 3)]), *shop.life(first=6)]
    for store in (shop.source, shop.target):
        shop.write(store, blocks)
    shop.check()
    shop.check_claims()


def test_purged_minutes_and_accepted_rejects_are_copied_as_they_are(shop: Shop) -> None:
    """What was deleted is no finding there either, and what was moved stays where it is."""
    with closing(shop.source.writer()) as writer:
        while writer.purge(NOON + 2 * HOUR_MS):
            pass
    _accept_one(shop.source)
    shop.copy()
    shop.check()
    blocks = shop.life(first=6)
    for store in (shop.source, shop.target):
        shop.write(store, blocks)
        with closing(store.writer()) as writer:
            writer.claim(shop.machinery.node, shop.journal, adopt=False)
            while writer.purge(NOON + 4 * HOUR_MS):
                pass
    shop.check()


def test_a_purge_that_was_interrupted_is_copied_so_that_it_adds_up(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded database counts what is left of old minutes, the cluster does not."""
    monkeypatch.setattr(purge, "_ROWS", 1)
    with closing(shop.source.writer()) as writer:
        steps = 0
        while writer.purge(NOON + 3 * HOUR_MS):
            steps += 1
    assert steps > 20
    again = Shop(shop.source.path.parent / "half", RejectQuota(), shop.storage.cassandra)
    with closing(again.source.writer()) as writer:
        for _ in range(steps - 6):
            assert writer.purge(NOON + 3 * HOUR_MS)
    again.copy()
    assert findings(again.source) == findings(again.target) == []


def test_an_interrupted_copy_goes_on_where_it_was(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after its first step, again after its second, and so on: it never copies a row twice."""
    readings, seqs = Target.readings, list[int]()

    def counted(self: Target, rows: Rows) -> None:
        seqs.extend(rows.seqs.tolist())
        readings(self, rows)

    monkeypatch.setattr(Target, "readings", counted)
    for step in range(1, 40):
        try:
            copied = shop.copy(_stops_at(step))
            break
        except _Stopped:
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
            _forget_mark(shop)
    assert call > 5
    shop.check()
    shop.check_claims()


def test_a_finished_copy_run_again_changes_nothing(shop: Shop) -> None:
    """Not even when the server has gone on there meanwhile."""
    shop.copy()
    assert shop.copy().already
    shop.check()
    shop.write(shop.target, [shop.machinery.block([(5, record("E0009"))])])
    before = _everything(shop.target)
    assert shop.copy().already
    assert _everything(shop.target) == before


def test_only_what_is_new_is_copied_when_the_source_has_grown(shop: Shop) -> None:
    """Counted by pages, and in rows of the running minute that were copied before."""
    shop.copy()
    shop.write(shop.source, [shop.machinery.block([(5, record("E0001") + b"bad#" + record("A"))])])
    copied = shop.copy()
    assert not copied.already
    assert copied.rows["readings"] < 20
    shop.check()
    shop.check_claims()
    shop.write(shop.source, shop.life(first=6))
    shop.copy()
    shop.check()
    shop.check_claims()


def test_rejects_that_were_accepted_between_two_copies_move_there_too(shop: Shop) -> None:
    """They stand among old rows, which are all copied again."""
    shop.copy()
    _accept_one(shop.source)
    shop.write(shop.source, [shop.machinery.block([(5, record("E0001"))])])
    shop.copy()
    shop.check()
    shop.check_claims()


def test_a_source_that_grew_while_the_copy_was_interrupted_is_copied_whole(shop: Shop) -> None:
    """Also where rows came for machines that the copy had passed."""
    with pytest.raises(_Stopped):
        shop.copy(_stops_at(3))
    shop.write(shop.source, shop.life(first=6))
    _accept_one(shop.source)
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
    with pytest.raises(_Stopped):
        shop.copy(_stops_at(2))
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
    assert asyncio.run(_of(shop.target.reader())) == ([], {}, [], [], [])


def test_two_databases_that_both_went_on_are_not_mixed(shop: Shop) -> None:
    """The cluster was written after the copy, and then the embedded database too."""
    shop.copy()
    block = shop.machinery.block([(5, record("E0001"))])
    for store in (shop.target, shop.source):
        shop.write(store, [block])
    before = _everything(shop.target)
    with pytest.raises(CursorMovedError, match="a server has written"):
        shop.copy()
    assert _everything(shop.target) == before


def test_the_lock_that_is_held_must_be_that_of_the_source(shop: Shop) -> None:
    """Else its server could be running."""
    with pytest.raises(NodeClaimedError, match="was written from journal"):
        copy_tables(shop.storage, "another", _ignore)


def test_a_source_that_nobody_has_written_is_nothing_to_copy(
    tmp_path: Path, quota: RejectQuota, shop: Shop
) -> None:
    """The embedded database was made, and that is all."""
    empty = SqliteStore(tmp_path, quota)
    empty.path = tmp_path / "empty.db"
    empty.writer().close()
    storage = StorageSettings(sqlite=SqliteSettings(path=str(empty.path)), cassandra=shop.storage.cassandra)
    with pytest.raises(StorageError, match="nothing to copy"):
        copy_tables(storage, shop.journal, _ignore)


def test_what_is_left_of_its_life_is_what_a_row_gets(shop: Shop) -> None:
    """By the newest row, not by the clock: too old ones stay behind, and out of the books."""
    keep_ms = 3 * HOUR_MS
    shop.copy(keep_days=keep_ms / 86_400_000)
    newest = max(reading.received_at for reading in _everything(shop.source)[0])
    connected = Connected(shop.storage.cassandra).use()
    rows = connected.execute("SELECT seq, received_at, ttl(reading) FROM readings")
    connected.close()
    kept = [
        (row.received_at, row.seq)
        for history in _everything(shop.source)[1].values()
        for row in history
        if row.received_at >= newest - keep_ms
    ]
    assert 0 < len(kept) < 57
    assert {seq for seq, _, _ in rows} == {seq for _, seq in kept}
    assert all(3_500 < ttl <= keep_ms // 1000 + 3_600 for _, _, ttl in rows)
    assert findings(shop.target) == []
    shop.check_claims()


@pytest.mark.parametrize("copied_before", [False, True])
def test_all_nodes_and_all_journals_come_along(shop: Shop, *, copied_before: bool) -> None:
    """Two servers write into one file, one of them perhaps since the last copy; and it has lost a journal."""
    if copied_before:
        shop.copy()
    other = Machinery(node=7, journal=uuid4().hex, at=shop.machinery.at)
    heir = Machinery(node=7, journal=uuid4().hex, at=shop.machinery.at + MINUTE_MS, record=other.record + 3)
    with closing(shop.source.writer()) as writer:
        writer.claim(7, other.journal, adopt=False)
        writer.write(None, [other.block([(9, record("E0001") * 2 + b"bad#")])], other.journal)
        writer.claim(7, heir.journal, adopt=True)
        writer.write(None, [heir.block([(9, record("B"))])], heir.journal)
    shop.copy()
    shop.check()
    shop.check_claims()
    for journal in (heir.journal, other.journal):
        claims = []
        for store in (shop.source, shop.target):
            with closing(store.writer()) as writer:
                claims.append(writer.claim(7, journal, adopt=True))
        assert claims[0] == claims[1]


def test_a_mark_is_saved_when_the_cluster_cannot_forget_it(shop: Shop) -> None:
    """Not before it has stood, and never when a node was started anew."""
    clock = [0.0]
    connected = Connected(shop.storage.cassandra).use()
    with closing(connected):
        key = uuid4().hex
        marks = Marks(connected, key, wait_s=20.0, now=lambda: clock[0], sleep=_ignore)
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
        marks._connected.generations = lambda: {host: at + 1 for host, at in found.items()}  # type: ignore[method-assign]
        clock[0] = 60.0
        with pytest.raises(DatabaseRestartedError):
            marks.reached(mark)


class _Stopped(Exception):  # noqa: N818  # it is none
    """Somebody pressed Ctrl-C."""


def _stops_at(step: int) -> Tell:
    left = iter(range(step - 1))

    def tell(_: Step) -> None:
        if next(left, None) is None:
            raise _Stopped

    return tell


def _forget_mark(shop: Shop) -> None:
    connected = Connected(shop.storage.cassandra).use()
    connected.execute("DELETE FROM headrace WHERE key = %s IF EXISTS", f"copy:{shop.journal}")
    connected.close()


def _accept_one(store: CheckedStore) -> None:
    """The oldest reject that may be judged again is good now."""
    with closing(store.quarantine()) as quarantine:
        (rejected,) = quarantine.page(-1, 1)
        assert quarantine.accept(rejected, Accepted("E0001", (1.0, 2.0, 3.0, 4.0, 5.0)))


def findings(store: CheckedStore) -> list[str]:
    """What does not add up."""
    with closing(store.books()) as books:
        return reconcile(books, waiting=None).findings


def _everything(store: CheckedStore) -> Any:
    return asyncio.run(_of(store.reader()))


async def _of(reader: ReadingStore) -> Any:
    """All that can be read: newest readings, histories, rejects, connections, ledger."""
    try:
        devices = await reader.devices(limit=99)
        names = [row.device_id for row in devices]
        return (
            devices,
            {name: await reader.history(name, 0, EVER, limit=999) for name in names},
            await reader.rejects(limit=99),
            await reader.connections(limit=99),
            await reader.ledger(0, EVER),
        )
    finally:
        await reader.close()


def _ignore(_: object) -> None:
    pass
