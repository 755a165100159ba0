"""What Cassandra refuses for good: one row among others, or everything because a table isn't what it was."""

import time

import msgspec
import pytest

from storage.cassandra.encoding import readings_key
from storage.cassandra.schema import table_cql
from storage.errors import StorageError
from storage.settings import CassandraSettings
from tests.faults.cassandra_oracle import check_all, on_cassandra, reading, stored
from tests.faults.conftest import MakeServer
from tests.faults.harness import Server
from tests.faults.sender import Sender, deliver, record
from tests.faults.waiting import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.cassandra]

_SET_ASIDE = 'headrace_records_set_aside_total{sink="tables"}'
_HOUR_MS = 3_600_000
_SOME_TRIES_S = 4.0
"""A sink that waits tries again every two seconds at the latest."""


def test_a_row_that_is_refused_is_set_aside_alone(make_server: MakeServer, tables: CassandraSettings) -> None:
    """With the reason; its neighbours in the same batch are stored, and what comes after."""
    server = make_server(on_cassandra(tables))
    server.start()
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


def deny(tables: CassandraSettings, device: str) -> None:
    """Have the database refuse every row of a device, for this hour and the next."""
    with reading(msgspec.structs.replace(tables, consistency="ONE")) as session:
        now = session.execute("SELECT to_unix_timestamp(now()) FROM system.local")[0][0]
        hour = int(str(now)) // _HOUR_MS * _HOUR_MS
        for key in (
            readings_key(device, hour),
            readings_key(device, hour + _HOUR_MS),
            readings_key("probe", 0),
        ):
            session.execute(
                "INSERT INTO system_distributed.partition_denylist (ks_name, table_name, key)"
                " VALUES (%s, 'readings', %s)",
                tables.keyspace,
                key,
            )

        def refused() -> bool:
            try:
                session.execute("DELETE FROM readings WHERE device_id = 'probe' AND bucket = 0")
            except StorageError as error:
                return "denylisted" in str(error)
            return False

        wait_until(refused, "the database knows what to refuse", rest=0.2)


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("ALTER TABLE connections DROP identity", "ALTER TABLE connections ADD identity text"),
        ("DROP TABLE readings", table_cql("readings", None)),
    ],
)
def test_a_table_that_is_not_as_it_was_is_waited_for(
    make_server: MakeServer, tables: CassandraSettings, broken: str, mended: str
) -> None:
    """Nothing is set aside, `/readyz` says what is wrong, and it goes on when the table is as it was."""
    server = make_server(on_cassandra(tables))
    server.start()
    _deliver(server, "before")
    server.wait_drained()
    _execute(tables, broken)
    _deliver(server, "M")
    wait_until(lambda: server.ready().sinks[0].state == "waiting", "the sink waits")
    _deliver(server, "N")
    time.sleep(_SOME_TRIES_S)
    ready = server.ready()
    assert ready.ready, "machines notice nothing"
    assert f"table {broken.split()[2]} is " in str(ready.sinks[0].reason)
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
