"""Rows of Cassandra expire by themselves: later than they are kept, and without looking like a loss."""

import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from parser.block import Event
from parser.verdicts import Accepted
from storage.base import MINUTE_MS, SERVER_LOST, Cursor
from storage.cassandra.connect import Connected
from storage.cassandra.counting import CassandraBooks
from storage.cassandra.expiry import countable_each_s, countable_s
from storage.cassandra.flight import Flight
from storage.cassandra.purge import CassandraPurge
from storage.cassandra.quarantine import CassandraQuarantine
from storage.cassandra.rows import INSERT
from storage.cassandra.schema import HOUR_MS, day_of
from storage.cassandra.tables import use
from storage.cassandra.times import to_ms
from storage.cassandra.writer import CassandraTableWriter
from storage.errors import NodeClaimedError, StoreUnavailableError
from storage.reconcile import Reconciliation, reconcile
from storage.settings import CassandraSettings, RejectQuota
from tests.storage.building import JOURNAL, STARTED, Machinery, closed, opened, record
from tests.support.cassandra import READ_OVER, Cassandra

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


def test_rows_live_an_hour_longer_than_their_bucket_is_kept(connected: Connected) -> None:
    """Counted from when they were written: no clock that is wrong shortens it."""
    whole = _KEPT * 86_400 + 3_600 + 3_600
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
            _purge(writer, now + 2 * HOUR_MS)
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


def _purge(writer: CassandraTableWriter, before: int) -> int:
    """Until nothing is left to do; in how many steps."""
    steps = 0
    while writer.purge(before):
        steps += 1
        assert steps < 100, "it never ends"
    return steps


def test_readings_are_deleted_with_their_whole_bucket_before_they_expire(
    settings: CassandraSettings, connected: Connected, writer: CassandraTableWriter, now: int
) -> None:
    """The books forget each minute at once."""
    ends = (now - 3 * _DAY_MS) // HOUR_MS * HOUR_MS + HOUR_MS
    if ends > now - 3 * _DAY_MS + MINUTE_MS:
        _purge(writer, ends - MINUTE_MS)
        assert len(connected.execute("SELECT seq FROM readings")) == 4
        assert _reconcile(settings, None).readings == 2
    _purge(writer, ends)
    assert len(connected.execute("SELECT seq FROM readings")) == 2
    assert len(connected.execute("SELECT bucket FROM device_buckets")) == 2
    assert _reconcile(settings, None).findings == []


def test_a_machine_that_says_no_more_leaves_nothing(
    connected: Connected, writer: CassandraTableWriter, now: int
) -> None:
    """Neither rows nor a bucket, however its purges fall; nor a day of its node."""
    for before in range(now - 4 * HOUR_MS, now + 2 * HOUR_MS, 20 * MINUTE_MS):
        _purge(writer, before)
    for what in (
        "seq FROM readings",
        "bucket FROM device_buckets",
        "seq FROM latest_readings",
        "day FROM ledger",
    ):
        assert connected.execute(f"SELECT {what}") == [], what
    assert connected.execute("SELECT seq FROM rejected_records") == []
    days = [to_ms(day) for (day,) in connected.execute("SELECT day FROM days")]
    assert days == [day for day in [day_of(now)] if day + _DAY_MS > before]
    _purge(writer, now + 2 * _DAY_MS)
    assert connected.execute("SELECT day FROM days") == []
    assert connected.execute("SELECT connection FROM connections") == []


def test_rows_that_expired_while_nobody_purged_stop_nobody(
    cassandra: Cassandra,
    settings: CassandraSettings,
    connected: Connected,
    writer: CassandraTableWriter,
    now: int,
) -> None:
    """A server was off for days: there are more of them than a node reads over, and nobody reads them."""
    at = now - 3 * _DAY_MS
    bucket = at // HOUR_MS * HOUR_MS
    insert = connected.session.prepare(INSERT + " AND TTL 1")
    for number in range(READ_OVER + 200):
        connected.session.execute(
            insert, ("E0001", bucket, bucket + number, number, (1, 2, 3, 4, 5), at * 1000)
        )
    time.sleep(2)
    if cassandra.node is not None:
        with pytest.raises(StoreUnavailableError, match="TOMBSTONES"):
            connected.execute("SELECT seq FROM readings WHERE device_id = 'E0001' AND bucket = %s", bucket)
    _purge(writer, now - 2 * _DAY_MS)
    assert _reconcile(settings, _KEPT).findings == []
    assert (
        connected.execute("SELECT seq FROM readings WHERE device_id = 'E0001' AND bucket = %s", bucket) == []
    )


def test_a_reject_that_was_accepted_ends_with_its_minute(
    settings: CassandraSettings, connected: Connected, writer: CassandraTableWriter, now: int
) -> None:
    """Whoever accepted it did so with another clock than that of the rows."""
    with closing(CassandraQuarantine(settings)) as quarantine:
        for reject in quarantine.page(0, 10):
            assert quarantine.accept(reject, Accepted("G0001", (1.0, 2.0, 3.0, 4.0, 5.0)))
    _purge(writer, now - 2 * _DAY_MS)
    assert len(connected.execute("SELECT minute FROM ledger")) == 1
    assert _reconcile(settings, None).findings == []


def test_what_comes_late_for_a_day_that_was_forgotten_is_found(
    settings: CassandraSettings, connected: Connected, writer: CassandraTableWriter, now: int
) -> None:
    """A server was off for longer than rows are kept, while another one purged."""
    _purge(writer, now - 2 * _DAY_MS)
    days = "SELECT day FROM days WHERE node = 3"
    assert day_of(now - 3 * _DAY_MS) not in {to_ms(day) for (day,) in connected.execute(days)}
    late = Machinery(at=now - 3 * _DAY_MS, record=20)
    late.next_id = 3
    block = late.block([(9, record("E0001"))], events=(opened(9), closed(9)))
    writer.write(Cursor(JOURNAL, 2), [block], JOURNAL)
    assert day_of(late.at) in {to_ms(day) for (day,) in connected.execute(days)}
    _purge(writer, now - 2 * _DAY_MS + MINUTE_MS)
    assert len(connected.execute("SELECT minute FROM ledger")) == 1
    assert _reconcile(settings, None).findings == []


def test_a_reject_that_does_not_count_any_more_is_not_accepted(
    settings: CassandraSettings, connected: Connected, writer: CassandraTableWriter, now: int
) -> None:
    """Its minute is in the sums already, while it is still there."""
    assert writer
    before = now - 2 * _DAY_MS
    purge = CassandraPurge(connected, Flight(connected), whole_buckets=True)
    assert list(purge._raise(3, [day_of(now - 3 * _DAY_MS)], before))
    with closing(CassandraQuarantine(settings)) as quarantine:
        answers = {
            reject.received_at < before: quarantine.accept(
                reject, Accepted("G0001", (1.0, 2.0, 3.0, 4.0, 5.0))
            )
            for reject in quarantine.page(0, 10)
        }
    assert answers == {True: False, False: True}


def test_connections_go_in_ranges_between_those_that_stay(settings: CassandraSettings, now: int) -> None:
    """More of them than a node reads over: the next server starts, and closes what was left open."""
    machinery, first = Machinery(at=now), now * 1000
    numbers = range(first, first + READ_OVER + 100)
    with (
        closing(CassandraTableWriter(settings, RejectQuota(), _KEPT)) as writer,
        closing(Connected(settings)) as connected,
    ):
        writer.claim(3, JOURNAL, adopt=False)
        use(connected)
        events: list[Event] = [*map(opened, numbers), *map(closed, numbers[1:-1])]
        writer.write(None, [machinery.block(events=tuple(events), later_ms=HOUR_MS)], JOURNAL)
        _purge(writer, now + 10 * MINUTE_MS)
        assert sorted(connected.execute("SELECT connection FROM connections")) == [
            (numbers[0],),
            (numbers[-1],),
        ]
        writer.write(machinery.cursor, [machinery.block(events=(STARTED,))], JOURNAL)
        assert connected.execute("SELECT why FROM connections") == [(SERVER_LOST,)] * 2


def test_nothing_is_purged_before_a_node_was_claimed(settings: CassandraSettings) -> None:
    """It would not know what to forget."""
    with closing(CassandraTableWriter(settings)) as unclaimed, pytest.raises(NodeClaimedError):
        unclaimed.purge(0)
