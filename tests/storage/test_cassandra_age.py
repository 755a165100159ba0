"""What a write and a purge ask of the cluster does not grow with how long it has been running."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from storage.base import MINUTE_MS
from storage.cassandra.connect import Connected
from storage.cassandra.flight import Flight
from storage.cassandra.schema import DAY_MS, day_of
from storage.cassandra.tables import use
from storage.cassandra.writer import CassandraTableWriter
from storage.settings import CassandraSettings, RejectQuota
from tests.storage.building import JOURNAL, NOON, Machinery, record
from tests.support.cassandra import Cassandra

pytestmark = pytest.mark.cassandra

_OTHER = 9
_DAYS = (20, 150)
_DAY = "INSERT INTO days (node, day) VALUES (?, ?) USING TIMESTAMP ?"
_MINUTE = """INSERT INTO ledger (node, day, minute, first_seq, last_seq, rejected)
    VALUES (?, ?, ?, 0, 0, 2)"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many statements were asked since the last call; many at once are too many to keep in mind."""
    real, count = Connected.ask, 0

    def ask(self: Connected, statements: Any, *, tries: int = 3) -> Any:
        nonlocal count
        statements = list(statements)
        count += len(statements)
        assert len(statements) <= 64
        return real(self, statements, tries=tries)

    def since() -> int:
        nonlocal count
        found, count = count, 0
        return found

    monkeypatch.setattr(Connected, "ask", ask)
    return since


def _aged(cassandra: Cassandra, days: int) -> CassandraSettings:
    """Tables that two nodes have written into for so many days, until yesterday."""
    settings = CassandraSettings(
        contact_points=tuple(cassandra.contact_points), port=cassandra.port, keyspace=cassandra.keyspace()
    )
    with closing(CassandraTableWriter(settings)) as writer, closing(Connected(settings)) as connected:
        for node, journal in ((3, JOURNAL), (_OTHER, "journal-b")):
            writer.claim(node, journal, adopt=False)
        use(connected)
        flight = Flight(connected)
        for node in (3, _OTHER):
            past = range(day_of(NOON) - days * DAY_MS, day_of(NOON), DAY_MS)
            flight.deliver(connected.bound(_DAY, node, day, day * 1000) for day in past)
            flight.deliver(connected.bound(_MINUTE, node, day, day) for day in past)
    return settings


def _write(writer: CassandraTableWriter, machinery: Machinery) -> int:
    """A block with one reject; how many of it were not kept."""
    cursor = machinery.cursor
    block = machinery.block([(1, record("E0001") + b"bad#")], later_ms=MINUTE_MS)
    return writer.write(cursor, [block], JOURNAL).unkept


def test_a_reject_costs_as_much_after_a_year_as_after_days(
    cassandra: Cassandra, asked: Callable[[], int]
) -> None:
    """Only the first one looks at all days there are."""
    costs = []
    for days in _DAYS:
        quota = RejectQuota(rows=4 * days + 3)
        with closing(CassandraTableWriter(_aged(cassandra, days), quota, recount_s=0.0)) as writer:
            writer.claim(3, JOURNAL, adopt=False)
            machinery = Machinery()
            assert _write(writer, machinery) == 0
            asked()
            assert _write(writer, machinery) == 0
            costs.append(asked())
            assert [_write(writer, machinery) for _ in range(2)] == [0, 1]
    assert costs[1] <= costs[0] + 4


def test_a_purge_costs_as_much_after_a_year_as_after_days(
    cassandra: Cassandra, asked: Callable[[], int]
) -> None:
    """Days of which nothing is left are forgotten."""
    costs = []
    for days in _DAYS:
        with closing(CassandraTableWriter(_aged(cassandra, days), keep_days=1.0)) as writer:
            writer.claim(3, JOURNAL, adopt=False)
            for before in (day_of(NOON) - DAY_MS, day_of(NOON) - DAY_MS + MINUTE_MS):
                asked()
                while writer.purge(before):
                    pass
            costs.append(asked())
    assert costs[1] <= costs[0]
