"""What is copied from the embedded database to a cluster is the same there, and goes on there."""

import time
from contextlib import closing
from uuid import uuid4

import pytest

from storage.base import MINUTE_MS
from storage.cassandra.connect import Connected
from storage.cassandra.tables import use
from storage.errors import StorageError
from storage.settings import RejectQuota
from storage.sqlite import purge
from tests.storage.building import NOON, Machinery, record
from tests.storage.moving import HOUR_MS, Shop, accept_one, everything, findings

pytestmark = pytest.mark.cassandra


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
    connected = use(Connected(shop.storage.cassandra))
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
    accept_one(shop.source)
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


def test_a_finished_copy_run_again_changes_nothing(shop: Shop) -> None:
    """Not even when the server has gone on there meanwhile."""
    shop.copy()
    assert shop.copy().already
    shop.check()
    shop.write(shop.target, [shop.machinery.block([(5, record("E0009"))])])
    before = everything(shop.target)
    assert shop.copy().already
    assert everything(shop.target) == before


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
    accept_one(shop.source)
    shop.write(shop.source, [shop.machinery.block([(5, record("E0001"))])])
    shop.copy()
    shop.check()
    shop.check_claims()


def test_what_is_left_of_its_life_is_what_a_row_gets(shop: Shop) -> None:
    """By the newest row, not by the clock: too old ones stay behind, and out of the books."""
    keep_ms = 3 * HOUR_MS
    shop.copy(keep_days=keep_ms / 86_400_000)
    newest = max(reading.received_at for reading in everything(shop.source)[0])
    connected = use(Connected(shop.storage.cassandra))
    rows = connected.execute("SELECT seq, received_at, ttl(reading) FROM readings")
    connected.close()
    kept = [
        (row.received_at, row.seq)
        for history in everything(shop.source)[1].values()
        for row in history
        if row.received_at >= newest - keep_ms
    ]
    assert 0 < len(kept) < 57
    assert {seq for seq, _, _ in rows} == {seq for _, seq in kept}
    assert all(7_100 < ttl <= keep_ms // 1000 + 7_200 for _, _, ttl in rows)
    assert findings(shop.target) == []
    shop.check_claims()


def test_rows_of_a_time_that_has_not_come_delete_nothing_in_the_cluster(shop: Shop) -> None:
    """Others may keep theirs there: by the newest time of this file all of them would be old."""
    shop.copy()
    before = everything(shop.target)
    shop.machinery.at = time.time_ns() // 1_000_000 + 30 * 86_400_000
    shop.machinery.stamp_us = shop.machinery.at * 1000
    shop.write(shop.source, [shop.machinery.block([(5, record("E0001"))])])
    with pytest.raises(StorageError, match=r"far ahead of the cluster's clock.*copy without keep_days"):
        shop.copy(keep_days=20.0)
    assert everything(shop.target) == before


def test_what_outlives_what_cassandra_can_count_is_copied_without_an_end(shop: Shop) -> None:
    """Readings and rejects; the cluster refuses any that would live beyond January 2038."""
    shop.copy(keep_days=20_000)
    connected = use(Connected(shop.storage.cassandra))
    assert {ttl for (ttl,) in connected.execute("SELECT ttl(reading) FROM readings")} == {None}
    assert {ttl for (ttl,) in connected.execute("SELECT ttl(raw) FROM rejected_records")} == {None}
    connected.close()
    shop.check()


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
