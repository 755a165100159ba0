"""Rows of Cassandra expire by themselves: later than they are kept, and without looking like a loss."""

import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from storage.base import MINUTE_MS
from storage.cassandra.connect import Connected
from storage.cassandra.counting import CassandraBooks
from storage.cassandra.expiry import countable_each_s, countable_s
from storage.cassandra.tables import use
from storage.cassandra.writer import CassandraTableWriter
from storage.errors import NodeClaimedError
from storage.reconcile import Reconciliation, reconcile
from storage.settings import CassandraSettings, RejectQuota
from tests.storage.building import JOURNAL, Machinery, closed, opened, record
from tests.support.cassandra import Cassandra

pytestmark = pytest.mark.cassandra

_DAY_MS = 86_400_000
_KEPT = 2.0


@pytest.fixture
def settings(cassandra: Cassandra) -> CassandraSettings:
    """A keyspace that is not there yet."""
    return CassandraSettings(
        contact_points=tuple(cassandra.contact_points), port=cassandra.port, keyspace=cassandra.keyspace()
    )


@pytest.fixture
def now() -> int:
    """The beginning of this minute; milliseconds."""
    return time.time_ns() // 1_000_000 // MINUTE_MS * MINUTE_MS


@pytest.fixture
def writer(settings: CassandraSettings, now: int) -> Iterator[CassandraTableWriter]:
    """A writer of a minute three days ago and of one now, each with two readings and a reject."""
    writer = CassandraTableWriter(settings, RejectQuota(), _KEPT)
    writer.claim(3, JOURNAL, adopt=False)
    machinery = Machinery(at=now - 3 * _DAY_MS)
    sent = record("E0001") + record("F0001") + b"bad#"
    blocks = [
        machinery.block([(1, sent)], events=(opened(1),), later_ms=3 * _DAY_MS),
        machinery.block([(1, sent)], events=(closed(1, 2 * len(sent)),)),
    ]
    writer.write(None, blocks, JOURNAL)
    yield writer
    writer.close()


@pytest.fixture
def connected(settings: CassandraSettings, writer: CassandraTableWriter) -> Iterator[Connected]:
    assert writer
    with closing(Connected(settings)) as connected:
        yield use(connected)


def _reconcile(settings: CassandraSettings, keep_days: float | None) -> Reconciliation:
    with closing(CassandraBooks(settings, keep_days)) as books:
        return reconcile(books, waiting=None)


def test_rows_live_an_hour_longer_than_they_are_kept(connected: Connected) -> None:
    """Counted from when they were written: no clock that is wrong shortens it."""
    whole = _KEPT * 86_400 + 3_600
    for query in ("SELECT ttl(reading) FROM readings", "SELECT ttl(raw) FROM rejected_records"):
        lives = [int(life) for (life,) in connected.execute(query)]
        assert lives
        assert all(whole - 600 < life <= whole for life in lives)


def test_what_lives_longer_than_cassandra_can_count_is_deleted_instead(
    settings: CassandraSettings, now: int
) -> None:
    """Beyond 20 years, or January 2038, nothing expires by itself, and all is written and purged as ever."""
    days = 20_000
    with closing(CassandraTableWriter(settings, RejectQuota(), days)) as writer:
        writer.claim(3, JOURNAL, adopt=False)
        sent = record("E0001") + record("F0001") + b"bad#"
        block = Machinery(at=now).block([(1, sent)], events=(opened(1), closed(1, len(sent))))
        assert writer.write(None, [block], JOURNAL).set_aside == 0
        with closing(Connected(settings)) as connected:
            use(connected)
            assert connected.execute("SELECT ttl(reading) FROM readings") == [(None,), (None,)]
            assert connected.execute("SELECT ttl(raw) FROM rejected_records") == [(None,)]
            assert _reconcile(settings, days).findings == []
            while writer.purge(now + 2 * 60 * MINUTE_MS):
                pass
            assert connected.execute("SELECT seq FROM readings") == []
            assert connected.execute("SELECT seq FROM rejected_records") == []


@pytest.mark.parametrize(
    ("clock", "life_s", "given"),
    [
        (1_800_000_000, 86_400, 86_400),
        (1_800_000_000, 340_000_000, 340_000_000),
        (1_800_000_000, 348_000_000, 0),
        (1_000_000_000, 630_000_000, 630_000_000),
        (1_000_000_000, 640_000_000, 0),
        (1_000_000_000, 10**12, 0),
        (2_147_480_000, 86_400, 0),
        (3_000_000_000, 86_400, 0),
    ],
)
def test_a_life_is_counted_from_now(
    clock: float, life_s: int, given: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fitted last year may not any more; 0 is for ever."""
    monkeypatch.setattr(time, "time", lambda: clock)
    assert countable_s(life_s) == given
    assert countable_each_s(np.array([1, life_s])).tolist() == [1 if clock < 2e9 else 0, given]


def test_what_has_expired_is_nobodys_loss(
    connected: Connected, settings: CassandraSettings, now: int
) -> None:
    """While nothing comes nobody purges, and rows expire all the same; what is younger has to be there."""
    for device, bucket in connected.execute("SELECT DISTINCT device_id, bucket FROM readings"):
        connected.execute(
            "DELETE FROM readings WHERE device_id = %s AND bucket = %s AND received_at < %s",
            device,
            bucket,
            now - _DAY_MS,
        )
    found = _reconcile(settings, _KEPT)
    assert found.findings == []
    assert (found.stored, found.readings, found.rejected, found.rejected_records) == (2, 2, 1, 1)
    assert len(_reconcile(settings, None).findings) == 1
    assert len(_reconcile(settings, 4.0).findings) == 1


def test_readings_about_to_expire_are_not_deleted(
    settings: CassandraSettings, connected: Connected, writer: CassandraTableWriter, now: int
) -> None:
    """Only what stays longer than it should is; the books forget it at once."""
    while writer.purge(now - 3 * _DAY_MS + 30 * MINUTE_MS):
        pass
    assert len(connected.execute("SELECT seq FROM readings")) == 4
    assert _reconcile(settings, None).readings == 2
    while writer.purge(now - 2 * _DAY_MS):
        pass
    assert len(connected.execute("SELECT seq FROM readings")) == 2
    assert _reconcile(settings, None).findings == []


def test_nothing_is_purged_before_a_node_was_claimed(settings: CassandraSettings) -> None:
    """It would not know what to forget."""
    with closing(CassandraTableWriter(settings)) as unclaimed, pytest.raises(NodeClaimedError):
        unclaimed.purge(0)
