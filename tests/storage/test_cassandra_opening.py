"""Opening a keyspace: made where there is none, refused where it is not ours, and said in one line."""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import msgspec
import pytest
from cassandra.cluster import Session
from cassandra.connection import ConnectionShutdown
from cassandra.query import SimpleStatement

from storage.base import Position
from storage.cassandra import connect
from storage.cassandra.connect import Connected
from storage.cassandra.encoding import shard_of
from storage.cassandra.meaning import meaning
from storage.cassandra.reader import CassandraReadingStore
from storage.cassandra.schema import HOUR_MS, TABLES, VERSION, day_of, keyspace_cql, table_cql
from storage.cassandra.tables import check_tables, create_tables, tables_of, use
from storage.cassandra.writer import CassandraTableWriter
from storage.errors import SchemaError, StoreUnavailableError
from storage.settings import CassandraSettings
from tests.storage.building import JOURNAL, NOON, Machinery, opened, record
from tests.support.cassandra import Cassandra

pytestmark = pytest.mark.cassandra

PAGE = (Path(__file__).parents[2] / "docs" / "tables.md").read_text(encoding="utf-8")
DOC = PAGE.partition("## The log of the order gateway\n")[0]


@pytest.fixture
def settings(cassandra: Cassandra) -> CassandraSettings:
    """A keyspace that is not there yet."""
    return CassandraSettings(
        contact_points=tuple(cassandra.contact_points), port=cassandra.port, keyspace=cassandra.keyspace()
    )


@pytest.fixture
def connected(settings: CassandraSettings) -> Iterator[Connected]:
    connected = Connected(settings)
    yield connected
    connected.close()


@pytest.fixture
def session(connected: Connected) -> Session:
    return connected.session


def test_a_datacenter_that_is_not_there_is_named(settings: CassandraSettings) -> None:
    """As are those that are: the nodes can be reached, so that isn't what is said."""
    with closing(Connected(settings)) as found:
        there = found.datacenter
    Connected(msgspec.structs.replace(settings, local_datacenter=there)).close()
    wrong = msgspec.structs.replace(settings, local_datacenter=there.swapcase())
    with pytest.raises(SchemaError, match=f"no datacenter {there.swapcase()!r} but {there}") as error:
        Connected(wrong)
    assert not error.value.retriable


def test_it_is_made_once_and_found_again(connected: Connected, session: Session) -> None:
    """Making it twice changes nothing; it says its version and how wide its buckets are."""
    create_tables(connected, 90.0)
    create_tables(connected, 90.0)
    check_tables(connected)
    assert dict(session.execute("SELECT key, value FROM headrace")) == {
        "version": str(VERSION),
        "bucket_hours": "1",
    }
    made = session.execute(
        "SELECT table_name, compaction, speculative_retry FROM system_schema.tables WHERE keyspace_name = %s",
        (connected.settings.keyspace,),
    )
    windows, asked_anew = {}, {}
    for name, compaction, speculative_retry in made:
        asked_anew[name] = speculative_retry
        if "compaction_window_size" in compaction:
            windows[name] = compaction["compaction_window_size"]
    assert windows == dict.fromkeys(("readings", "rejected_records", "set_aside_records"), "72")
    assert "200" in asked_anew["nodes"], "compare-and-set waits for no copy that stands still"


def test_a_change_of_the_schema_waits_until_all_nodes_know_it(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next statement fails at a node that doesn't; whom it asks may be gone meanwhile."""
    control = connected.session.cluster.control_connection
    answers: list[bool | Exception] = [False, ConnectionShutdown("gone"), True]
    asked: list[float] = []

    def agreed(*of_the_driver: object, wait_time: float, **_: object) -> bool:
        if of_the_driver:
            return True
        asked.append(wait_time)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    keyspace = keyspace_cql(connected.settings.keyspace, connected.datacenter, 1)
    with monkeypatch.context() as patched:
        patched.setattr(connect, "_LOOK_S", 0.01)
        patched.setattr(control, "wait_for_schema_agreement", agreed)
        connected.define(keyspace)
        assert len(asked) >= 3
        answers[:] = [False]
        patched.setattr(connect, "_AGREEMENT_S", 0.05)
        with pytest.raises(StoreUnavailableError, match="its nodes don't agree on the schema"):
            connected.define(keyspace)
    assert min(asked) > 0, "of 0 seconds the driver says that all agree"


def test_who_closes_waits_for_no_agreement(settings: CassandraSettings) -> None:
    """A node that stands still agrees to nothing, and the server has to end."""
    connected = Connected(settings)
    asked = threading.Event()

    def never(_: float) -> bool:
        asked.set()
        return False

    with patch.object(connected, "_agreed", never), ThreadPoolExecutor(1) as beside:
        defining = beside.submit(connected.define, keyspace_cql(settings.keyspace, connected.datacenter, 1))
        assert asked.wait(20)
        connected.close()
        with pytest.raises(StoreUnavailableError, match="don't agree"):
            defining.result(10)


def test_another_programs_keyspace_is_left_alone(connected: Connected, session: Session) -> None:
    """It is named, and nothing is made in it."""
    keyspace = connected.settings.keyspace
    session.execute(keyspace_cql(keyspace, connected.datacenter, 1))
    session.execute(f"CREATE TABLE {keyspace}.orders (id int PRIMARY KEY)")
    with pytest.raises(
        SchemaError, match=f"{keyspace}: is another program's keyspace; set storage.cassandra"
    ):
        create_tables(connected, None)
    with pytest.raises(SchemaError, match="another program's"):
        check_tables(connected)
    tables = session.execute(
        "SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", (keyspace,)
    )
    assert [name for (name,) in tables] == ["orders"]


def test_another_version_and_another_bucket_are_refused(connected: Connected, session: Session) -> None:
    """A newer program's tables are not touched; a bucket's width is fixed when the tables are made."""
    create_tables(connected, None)
    session.execute("UPDATE headrace SET value = %s WHERE key = 'version'", (str(VERSION + 1),))
    with pytest.raises(SchemaError, match=f"holds version {VERSION + 1} .* knows version {VERSION}"):
        CassandraTableWriter(connected.settings)
    session.execute("UPDATE headrace SET value = %s WHERE key = 'version'", (str(VERSION),))
    wider = msgspec.structs.replace(connected.settings, bucket_hours=24)
    with pytest.raises(SchemaError, match=r"made with storage\.cassandra\.bucket_hours = 1, not 24"):
        CassandraTableWriter(wider)


def _altered(connected: Connected) -> Iterator[str]:
    """Change something, say what is wrong then, and put it back; a field of a type stays."""
    not_made = "is not as it was made"
    days = "CREATE TABLE days (node int, day timestamp, PRIMARY KEY"
    for changes, said, mended in (
        (["ALTER TABLE ledger DROP empty"], "empty is missing", ["ALTER TABLE ledger ADD empty bigint"]),
        (["ALTER TABLE days ADD more text"], "more was added", ["ALTER TABLE days DROP more"]),
        (
            ["DROP TABLE days", f"{days} ((node, day)))"],
            "day is timestamp, partition 2, not timestamp, clustering 1 desc",
            [],
        ),
        (
            ["DROP TABLE days", f"{days} (node, day))"],
            "day is timestamp, clustering 1 asc, not timestamp, clustering 1 desc",
            ["DROP TABLE days", table_cql("days", None)],
        ),
        (
            ["ALTER TYPE reading RENAME power_kw TO power_w"],
            "power_kw is missing; power_w was added",
            ["ALTER TYPE reading RENAME power_w TO power_kw"],
        ),
        (["ALTER TYPE reading ADD vibration double"], "vibration was added", []),
    ):
        for change in changes:
            connected.define(change)
        kind, name = changes[-1].lower().split()[1:3]
        yield f"{kind} {name} {not_made} ({said}); nothing is written until it is"
        for change in mended:
            connected.define(change)


def test_what_was_altered_is_named(connected: Connected) -> None:
    """The table or type, and what of it is not as it was made: names, types, and the key."""
    create_tables(connected, None)
    for said in _altered(connected):
        with pytest.raises(SchemaError, match=re.escape(f"{connected.settings.keyspace}: {said}")):
            check_tables(connected)


def test_another_programs_type_is_left_alone(connected: Connected, session: Session) -> None:
    """No tables are made of it."""
    keyspace = connected.settings.keyspace
    session.execute(keyspace_cql(keyspace, connected.datacenter, 1))
    session.execute(f"CREATE TYPE {keyspace}.reading (spindle_temperature_c double, voltage_v text)")
    with pytest.raises(SchemaError, match=r"type reading is not .*voltage_v is text, not double"):
        create_tables(connected, None)
    assert tables_of(connected).keys() == {"headrace"}


def test_a_table_that_was_dropped_is_not_made_anew(connected: Connected, session: Session) -> None:
    """An empty one in its place would hide that rows are gone; an interrupted making goes on."""
    create_tables(connected, None)
    session.execute("DROP TABLE days")
    with pytest.raises(SchemaError, match="table days is missing"):
        CassandraTableWriter(connected.settings)
    session.execute("DELETE FROM headrace WHERE key = 'version'")
    CassandraTableWriter(connected.settings).close()
    check_tables(connected)


async def test_a_reader_waits_for_tables_that_are_not_there_yet(settings: CassandraSettings) -> None:
    """Before the first writer a read says so, and after it the same store reads."""
    store = CassandraReadingStore(settings, deadline_s=30.0)
    with pytest.raises(StoreUnavailableError, match="no tables yet; `headrace db init`"):
        await store.latest("E0001")
    CassandraTableWriter(settings).close()
    assert await store.latest("E0001") is None
    await store.close()


def test_a_cluster_that_is_not_there_is_named(settings: CassandraSettings) -> None:
    """And trying again can help."""
    nowhere = msgspec.structs.replace(settings, port=1)
    with pytest.raises(
        StoreUnavailableError, match=r"cassandra 127.0.0.1:1 .*no node can be reached"
    ) as error:
        CassandraTableWriter(nowhere)
    assert error.value.retriable


def test_a_password_that_is_missing_is_asked_for(
    settings: CassandraSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes from the environment alone."""
    monkeypatch.delenv("HEADRACE_CASSANDRA_PASSWORD", raising=False)
    with pytest.raises(SchemaError, match="password belongs into HEADRACE_CASSANDRA_PASSWORD"):
        CassandraTableWriter(msgspec.structs.replace(settings, username="plant"))


def test_an_authority_that_cannot_be_read_is_named(settings: CassandraSettings) -> None:
    """Before anybody is connected to."""
    with pytest.raises(SchemaError, match=r"missing.pem: no certificate can be read"):
        CassandraTableWriter(msgspec.structs.replace(settings, tls_ca="missing.pem"))


def test_an_error_nobody_knows_is_still_one_line(settings: CassandraSettings) -> None:
    """Whatever the driver raises."""
    assert "\n" not in str(meaning(settings, ValueError("one\ntwo")))


def test_what_a_node_refuses_as_it_stands_is_one_of_ours_too(connected: Connected) -> None:
    """The driver has errors outside of its own family, which nobody would catch."""
    with pytest.raises(SchemaError, match=r"line 1:\d .*; `headrace db init`"):
        connected.execute("SELEC key FROM headrace")
    with pytest.raises(SchemaError, match=r"line 1:\d .*; `headrace db init`"):
        connected.ask([SimpleStatement("SELEC key FROM headrace")])


async def test_rows_of_another_program_are_not_mistaken_for_ours(
    settings: CassandraSettings, session: Session
) -> None:
    """A row without its values is named, in the newest and in the history; the store goes on reading."""
    writer = CassandraTableWriter(settings)
    writer.claim(3, JOURNAL, adopt=False)
    machinery = Machinery()
    writer.write(None, [machinery.block([(1, record("E0001") + record("F0001"))])], JOURNAL)
    writer.close()
    session.set_keyspace(settings.keyspace)
    hour = NOON // HOUR_MS * HOUR_MS
    session.execute(
        "INSERT INTO readings (device_id, bucket, received_at, seq) VALUES ('E0001', %s, %s, 1)", (hour, NOON)
    )
    session.execute(
        "INSERT INTO latest_readings (shard, device_id, node, received_at) VALUES (%s, 'E0001', 9, %s)",
        (shard_of("E0001"), NOON),
    )
    store = CassandraReadingStore(settings, deadline_s=30.0)
    for reading in (store.history("E0001", 0, 1 << 62, limit=10), store.devices(limit=10)):
        with pytest.raises(SchemaError, match="a row lacks a value"):
            await reading
    assert len(await store.history("F0001", 0, 1 << 62, limit=10)) == 1
    await store.close()


async def test_a_history_read_in_parts_is_the_history(settings: CassandraSettings) -> None:
    """Many rows are asked for in quarters of a bucket: nothing at their edges is missing or there twice."""
    writer = CassandraTableWriter(settings)
    writer.claim(3, JOURNAL, adopt=False)
    hour, quarter = NOON // HOUR_MS * HOUR_MS, HOUR_MS // 4
    moments = [begin + later for begin in range(hour, hour + 2 * HOUR_MS, quarter) for later in (-1, 0, 1)]
    machinery = Machinery(at=moments[0])
    blocks = [
        machinery.block([(1, record("E0001") * 2)], later_ms=later - now)
        for now, later in pairwise([*moments, moments[-1] + 1])
    ]
    writer.write(None, blocks, JOURNAL)
    writer.close()
    store = CassandraReadingStore(settings, deadline_s=30.0)
    rows = await store.history("E0001", 0, 1 << 62, limit=9)
    assert [row.received_at for row in rows] == sorted(moments * 2, reverse=True)[:9]
    rows = await store.history("E0001", 0, 1 << 62, limit=10_000)
    assert [row.received_at for row in rows] == sorted(moments * 2, reverse=True)
    for start, end in ((hour, hour + quarter), (hour + 1, hour + HOUR_MS + 1), (hour - 1, hour + HOUR_MS)):
        before = next(Position(row.received_at, row.seq) for row in rows if row.received_at < end)
        within = [row for row in rows if start <= row.received_at < end]
        assert await store.history("E0001", start, end, limit=10_000) == within
        assert await store.history("E0001", start, end, limit=10_000, before=before) == within[1:]
    await store.close()


async def test_reads_do_not_block_the_loop(settings: CassandraSettings) -> None:
    """While a long history comes in pages over several buckets, the loop goes on; the rows are right."""
    writer = CassandraTableWriter(settings)
    writer.claim(3, JOURNAL, adopt=False)
    machinery = Machinery()
    for _ in range(4):
        cursor = machinery.cursor
        block = machinery.block([(1, record("E0001") * 6_000)], later_ms=3_600_000)
        writer.write(cursor, [block], JOURNAL)
    writer.close()
    store = CassandraReadingStore(settings, deadline_s=30.0)
    await store.latest("E0001")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking = asyncio.create_task(tick())
    begun = time.monotonic()
    rows = await store.history("E0001", 0, 1 << 62, limit=20_000)
    took = time.monotonic() - begun
    ticking.cancel()
    assert len(rows) == 20_000
    keys = [(row.received_at, row.seq) for row in rows]
    assert keys == sorted(keys, reverse=True)
    assert len(set(keys)) == 20_000
    assert ticks > 20, f"the loop turned {ticks} times in {took:.2f} s"
    await store.close()


def test_all_tables_are_truncated_by_their_names(connected: Connected) -> None:
    """What the schema names is what there is."""
    create_tables(connected, None)
    found = connected.execute(
        "SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", connected.settings.keyspace
    )
    assert {name for (name,) in found} == {*TABLES, "headrace"}


def test_the_documents_queries_run(settings: CassandraSettings) -> None:
    """Each query of docs/tables.md, as it stands there, finds what was written."""
    writer = CassandraTableWriter(settings)
    writer.claim(3, JOURNAL, adopt=False)
    connection = NOON * 1_000
    sent = record("E0001", 20.0, 3_000.0, 1.0, 6.0) * 3 + b"bad#"
    block = Machinery().block([(connection, sent)], events=(opened(connection),))
    writer.write(None, [block], JOURNAL)
    writer.close()
    connected = use(Connected(settings))
    hour, day = NOON // HOUR_MS * HOUR_MS, day_of(NOON)
    places = {
        "device_id = ? AND bucket = ? AND received_at": ("E0001", hour, NOON, NOON + 1),
        "device_id = ? AND bucket = ?": ("E0001", hour),
        "device_id = ?": ("E0001",),
        "node = ?": (3, day),
        "shard": (),
    }
    queries = re.findall(r"```cql\n(.*?)```", DOC, re.DOTALL)
    assert len(queries) == 8
    for query in queries:
        values = next(values for part, values in places.items() if part in query)
        (rows,) = connected.ask([connected.bound(query, *values)])
        assert rows, query
    connected.close()


def test_the_document_names_every_table() -> None:
    """Those that readers may come across, and no other."""
    section = DOC.partition("## In Cassandra")[2]
    described = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert described == set(TABLES) - {"purged"}
