"""What Cassandra refuses for good: one row among others, or everything because a table isn't what it was."""

import time
from contextlib import closing

import pytest
from cassandra.query import ConsistencyLevel, SimpleStatement

from storage.cassandra.encoding import readings_key, shard_of
from storage.cassandra.schema import table_cql
from storage.cassandra.writer import CassandraTableWriter
from storage.errors import StorageError
from storage.settings import CassandraSettings
from tests.faults.cassandra_oracle import check_all, check_books, on_cassandra, reading, stored
from tests.faults.conftest import MakeServer
from tests.faults.figures import Figures
from tests.faults.harness import Server
from tests.faults.sender import Sender, deliver, record
from tests.faults.waiting import wait_until
from tests.storage.building import JOURNAL, Machinery, opened

pytestmark = [pytest.mark.fault, pytest.mark.cassandra]

_SET_ASIDE = 'headrace_records_set_aside_total{sink="tables"}'
_HOUR_MS = 3_600_000
_DENYLIST = "system_distributed.partition_denylist"
_PROBES = 20
_SOME_TRIES_S = 4.0
"""A sink that waits tries again every two seconds at the latest."""


def test_a_row_that_is_refused_is_set_aside_alone(make_server: MakeServer, tables: CassandraSettings) -> None:
    """With the reason; its neighbours in the same batch are stored, and what comes after."""
    server = make_server(on_cassandra(tables))
    server.start(seconds=60)
    sender = Sender("M", server.ack_port, per_second=2_000)
    sender.start()
    sender.wait_for_more(1_000)
    deny(tables, "N7")
    deliver(server.ack_port, b"".join(record(f"N{number}", number) for number in range(20)), records=20)
    wait_until(lambda: server.metric(_SET_ASIDE) > 0, "the row is set aside")
    sender.wait_for_more(1_000)
    sender.stop()
    server.wait_drained()
    with reading(tables) as session:
        aside = session.execute("SELECT device_id, reading.spindle_speed_rpm, why FROM set_aside_records")
        counted = session.execute("SELECT sum(set_aside) FROM ledger")
    assert [row[:2] for row in aside] == [("N7", 7.0)]
    assert "denylisted" in str(aside[0][2])
    assert counted == [(1,)]
    rows = stored(tables)
    assert [rows.get(f"N{number}") for number in range(20)] == [
        {number: 1} if number != 7 else None for number in range(20)
    ]
    check_all(server, tables, [sender])


def test_a_machine_that_is_refused_stops_no_other_in_a_backlog(
    tables: CassandraSettings, figures: Figures
) -> None:
    """Over a thousand of its rows are in one write: they are set aside, all others stored."""
    with closing(CassandraTableWriter(tables)) as writer:
        writer.claim(0, JOURNAL, adopt=False)
        deny(tables, "N7")
        sent = b"".join(record(f"N{number}", number) for number in range(20)) * 1_500
        block = Machinery(node=0, at=time.time_ns() // 1_000_000).block([(1, sent)], events=(opened(1),))
        figures.deliver(30_000, 30_000)
        written = writer.write(None, [block], JOURNAL)
    assert (written.stored, written.set_aside) == (19 * 1_500, 1_500)
    with reading(tables) as session:
        aside = session.execute("SELECT device_id, reading.spindle_speed_rpm, why FROM set_aside_records")
    assert {row[:2] for row in aside} == {("N7", 7.0)}
    assert len(aside) == 1_500
    assert all("denylisted" in str(row[2]) for row in aside)
    assert stored(tables) == {f"N{number}": {number: 1_500} for number in range(20) if number != 7}
    check_books(tables)


def test_a_newest_row_that_is_refused_is_waited_for(
    make_server: MakeServer, tables: CassandraSettings
) -> None:
    """No reading is set aside for it; `/readyz` says why, and it goes on when the row is taken."""
    server = make_server(on_cassandra(tables))
    server.start(seconds=60)
    _deliver(server, "before")
    server.wait_drained()
    shard = shard_of("M")
    place = ("latest_readings", [shard.to_bytes(4)], f"shard = {shard} AND device_id = 'probe' AND node = 0")
    _deny(tables, *place)
    _deliver(server, "M")
    wait_until(lambda: "denylisted" in str(server.ready().sinks[0].reason), "the sink says why")
    with reading(tables) as session:
        assert session.execute("SELECT seq FROM set_aside_records") == []
    _allow(tables, *place)
    server.wait_drained()
    assert stored(tables)["M"] == dict.fromkeys(range(1_000), 1)
    with reading(tables) as session:
        found = session.execute("SELECT device_id FROM latest_readings")
    assert sorted(found) == [("M",), ("before",)]
    check_all(server, tables, [])


def deny(tables: CassandraSettings, device: str) -> None:
    """Have the database refuse every row of a device, for this hour and the next."""
    hour = time.time_ns() // 1_000_000 // _HOUR_MS * _HOUR_MS
    keys = [readings_key(device, hour), readings_key(device, hour + _HOUR_MS), readings_key("probe", 0)]
    _deny(tables, "readings", keys, "device_id = 'probe' AND bucket = 0")


def _deny(tables: CassandraSettings, table: str, keys: list[bytes], probe: str) -> None:
    """Have the database refuse all rows of these partitions; one of them has the probe."""
    values = "(ks_name, table_name, key) VALUES (%s, %s, %s)"
    _say(tables, table, keys, f"INSERT INTO {_DENYLIST} {values}")
    wait_until(lambda: _refused(tables, table, probe) == _PROBES, "all nodes know what to refuse", rest=0.2)


def _allow(tables: CassandraSettings, table: str, keys: list[bytes], probe: str) -> None:
    """Have it take them again."""
    place = "ks_name = %s AND table_name = %s AND key = %s"
    _say(tables, table, keys, f"DELETE FROM {_DENYLIST} WHERE {place}")  # noqa: S608  # our own words
    wait_until(lambda: _refused(tables, table, probe) == 0, "all nodes take all again", rest=0.2)


def _say(tables: CassandraSettings, table: str, keys: list[bytes], statement: str) -> None:
    """One node is enough: its own tables have more copies than there are nodes."""
    said = SimpleStatement(statement, consistency_level=ConsistencyLevel.ONE)
    with reading(tables) as session:
        for key in keys:
            session.session.execute(said, (tables.keyspace, table, key))


def _refused(tables: CassandraSettings, table: str, probe: str) -> int:
    """How many of some attempts were refused; whichever node is asked answers for itself."""
    refused = 0
    with reading(tables) as session:
        for _ in range(_PROBES):
            try:
                session.execute(f"DELETE FROM {table} WHERE {probe}")  # noqa: S608  # our own words
            except StorageError as error:
                refused += "denylisted" in str(error)
    return refused


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("ALTER TABLE connections DROP identity", "ALTER TABLE connections ADD identity text"),
        ("DROP TABLE readings", table_cql("readings", None)),
    ],
    ids=["a column", "a whole one"],
)
def test_a_table_that_is_not_as_it_was_is_waited_for(
    make_server: MakeServer, tables: CassandraSettings, broken: str, mended: str
) -> None:
    """Nothing is set aside, `/readyz` says what is wrong, and it goes on when the table is as it was."""
    server = make_server(on_cassandra(tables))
    server.start(seconds=60)
    _deliver(server, "before")
    server.wait_drained()
    _execute(tables, broken)
    _deliver(server, "M")
    wait_until(lambda: server.ready().sinks[0].state == "waiting", "the sink waits")
    _deliver(server, "N")
    told = f"table {broken.split()[2]} is "
    wait_until(lambda: told in str(server.ready().sinks[0].reason), "it says which table", 60)
    time.sleep(_SOME_TRIES_S)
    ready = server.ready()
    assert ready.ready, "machines notice nothing"
    assert told in str(ready.sinks[0].reason)
    _execute(tables, mended)
    server.wait_drained()
    rows = stored(tables)
    assert rows["M"] == rows["N"] == dict.fromkeys(range(1_000), 1)
    with reading(tables) as session:
        assert session.execute("SELECT seq FROM set_aside_records") == []
    if "ALTER" in broken:  # what was dropped with a whole table the books still count
        check_all(server, tables, [])


def _deliver(server: Server, device: str) -> None:
    deliver(server.ack_port, b"".join(record(device, number) for number in range(1_000)), records=1_000)


def _execute(tables: CassandraSettings, statement: str) -> None:
    with reading(tables) as session:
        session.execute(statement)
