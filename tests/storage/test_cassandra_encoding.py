"""Batches made of columns are, byte for byte, those that the driver would make of the same rows."""

from collections.abc import Iterator

import numpy as np
import pytest
from cassandra.protocol import BatchMessage, ProtocolHandler
from cassandra.query import BatchType, ConsistencyLevel, PreparedStatement
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parser.block import from_seq, to_seq
from storage.cassandra.connect import Connected
from storage.cassandra.encoding import (
    FEW_ROWS,
    ROWS_ALONE,
    SHARED_BYTES,
    Batches,
    EncodedRows,
    Encoder,
    Handler,
    shard_of,
)
from storage.cassandra.rows import BUCKET, INSERT, LATEST
from storage.cassandra.schema import HOUR_MS
from storage.cassandra.tables import create_tables
from storage.rows import Rows
from storage.settings import CassandraSettings
from tests.storage.building import NOON

pytestmark = pytest.mark.cassandra

names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
numbers = st.floats(allow_nan=False, allow_infinity=False)
records = st.tuples(st.integers(0, 4), st.integers(0, 3 * HOUR_MS * 1_000), *[numbers] * 5)
tables = st.tuples(st.lists(names, min_size=5, max_size=5, unique=True), st.lists(records, min_size=1))


@pytest.fixture(scope="module")
def connected(cassandra_settings: CassandraSettings) -> Iterator[Connected]:
    connected = Connected(cassandra_settings)
    create_tables(connected, None)
    yield connected
    connected.close()


def _rows(devices: list[str], found: list[tuple[float, ...]]) -> Rows:
    """Rows in the order of their stamps, numbered from 7 on."""
    ordered = sorted(found, key=lambda row: row[1])
    return Rows(
        devices,
        np.array([row[0] for row in ordered], np.int32),
        NOON * 1_000 + np.array([row[1] for row in ordered], np.int64),
        to_seq(3, 7) + np.arange(len(ordered), dtype=np.int64),
        np.array([row[2:] for row in ordered], np.float64).T,
    )


def _encoder(connected: Connected, insert: str = INSERT) -> Encoder:
    prepared = [connected.prepared(cql) for cql in (insert, LATEST, BUCKET)]
    return Encoder(prepared[0], prepared[1], prepared[2], HOUR_MS)


def _stock(insert: PreparedStatement, values: list[tuple[object, ...]]) -> bytes:
    """The frame that the driver makes of these values."""
    queries = [(True, insert.query_id, insert.bind(row).values) for row in values]
    return _frame(ProtocolHandler, queries)


def _frame(handler: type[ProtocolHandler], queries: object) -> bytes:
    message = BatchMessage(BatchType.UNLOGGED, queries, ConsistencyLevel.LOCAL_QUORUM)
    encoded: bytes = handler.encode_message(message, 5, 4, None, allow_beta_protocol_version=False)
    return encoded


def _values(rows: Rows, place: int) -> tuple[object, ...]:
    """What a row of `readings` is bound to."""
    at, seq = int(rows.stamps[place]) // 1_000, int(rows.seqs[place])
    device = rows.devices[int(rows.codes[place])]
    reading = tuple(rows.values[:, place].tolist())
    return device, at // HOUR_MS * HOUR_MS, at, seq, reading, int(rows.stamps[place])


@given(table=tables)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_readings_are_the_drivers_own_bytes(
    connected: Connected, table: tuple[list[str], list[tuple[float, ...]]]
) -> None:
    """Any names, times and numbers; with and without a time to live; each row once."""
    rows = _rows(*table)
    for cql, ttl in ((INSERT, None), (f"{INSERT} AND TTL ?", np.arange(len(rows.seqs), dtype=np.int32) + 1)):
        insert = connected.prepared(cql)
        seen: list[int] = []
        for batch in Batches("ks", lambda: None).of(_encoder(connected, cql).readings(rows, ttl)):
            places = batch.places.tolist()
            values = [
                (*_values(rows, place), *([] if ttl is None else [int(ttl[place])])) for place in places
            ]
            assert _frame(Handler, batch._statements_and_parameters) == _stock(insert, values)
            first = insert.bind(values[0])
            first.prepared_statement.routing_key_indexes = [0, 1]
            assert batch.routing_key == first.routing_key
            seen += places
        assert sorted(seen) == list(range(len(rows.seqs)))


@given(table=tables)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_newest_readings_and_buckets_are_the_drivers_own_bytes(
    connected: Connected, table: tuple[list[str], list[tuple[float, ...]]]
) -> None:
    """The newest row of each device goes to its shard, with its record's number as write timestamp."""
    rows = _rows(*table)
    encoder, plan = _encoder(connected), Batches("ks", lambda: None)
    newest: list[int] = []
    for batch in plan.of(encoder.latest(rows, 3)):
        values: list[tuple[object, ...]] = []
        for place in batch.places.tolist():
            device, _, at, seq, reading, _ = _values(rows, place)
            values.append((shard_of(str(device)), device, 3, at, seq, reading, from_seq(int(str(seq)))[1]))
        assert _frame(Handler, batch._statements_and_parameters) == _stock(connected.prepared(LATEST), values)
        newest += batch.places.tolist()
    assert sorted(newest) == sorted(rows.newest().tolist())
    for batch in plan.of(encoder.buckets(rows, rows.newest())):
        values = [
            (_values(rows, place)[0], _values(rows, place)[1], _values(rows, place)[5])
            for place in batch.places
        ]
        assert _frame(Handler, batch._statements_and_parameters) == _stock(connected.prepared(BUCKET), values)


def test_other_messages_are_left_to_the_driver(connected: Connected) -> None:
    """A batch of bound statements is encoded as ever."""
    insert = connected.prepared(BUCKET)
    queries = [(True, insert.query_id, insert.bind(("E0001", 0, 1)).values)]
    assert _frame(Handler, queries) == _frame(ProtocolHandler, queries)


def test_fat_partitions_go_alone_and_small_ones_share(connected: Connected) -> None:
    """500 rows of one partition at most; what has few rows shares a batch below the server's limit."""
    counts = [1_250, FEW_ROWS, FEW_ROWS - 1, *[10] * 200]
    codes = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    order = np.random.default_rng(1).permutation(len(codes))
    number = len(codes)
    rows = Rows(
        [f"E{place:04}" for place in range(len(counts))],
        codes[order],
        np.full(number, NOON * 1_000),
        np.arange(number),
        np.ones((5, number)),
    )
    sizes: dict[int, list[int]] = {}
    for batch in Batches("ks", lambda: None).of(_encoder(connected).readings(rows, None)):
        devices = rows.codes[batch.places].tolist()
        runs = [device for place, device in enumerate(devices) if not place or devices[place - 1] != device]
        assert len(runs) == len(set(runs)), "rows of one partition stand together"
        sizes.setdefault(len(runs), []).append(len(devices))
        if len(runs) > 1:
            assert sum(piece.nbytes for piece in batch._statements_and_parameters.pieces) < SHARED_BYTES * 2
    assert sizes[1][:4] == [ROWS_ALONE, ROWS_ALONE, 250, FEW_ROWS]
    assert sum(sum(of) for of in sizes.values()) == number
    assert len(sizes) > 1


def test_only_partitions_of_the_same_replicas_share(connected: Connected) -> None:
    """A node that coordinates a shared batch holds all of it."""
    rows = Rows(
        [f"E{place:04}" for place in range(40)],
        np.arange(40, dtype=np.int32),
        np.full(40, NOON * 1_000),
        np.arange(40),
        np.ones((5, 40)),
    )
    plan = Batches("ks", lambda: lambda key: ("even",) if key[6] % 2 == 0 else ("odd",))
    batches = list(plan.of(_encoder(connected).readings(rows, None)))
    assert len(batches) == 2
    for batch in batches:
        assert len({int(rows.codes[place]) % 2 for place in batch.places}) == 1


@pytest.mark.parametrize("parts", [1, 2, 8, 1_000])
def test_a_batch_that_is_cut_is_the_same_rows(connected: Connected, parts: int) -> None:
    """Whole rows, each once, in their order; also where its pieces have rows of several widths."""
    counts = [3, 1, 40, 2, 90]
    codes = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    number = len(codes)
    devices = ["E1", "E22", "E333", "E34", "E5"]
    rows = Rows(devices, codes, np.full(number, NOON * 1_000), np.arange(number), np.ones((5, number)))
    encoder = _encoder(connected)
    (batch,) = Batches("ks", lambda: None).of(encoder.readings(rows, None))
    cut = list(batch.cut(parts))
    assert len(cut) == min(parts, number)
    assert max(len(part.places) for part in cut) <= number // len(cut) + 1
    assert np.concatenate([part.places for part in cut]).tolist() == batch.places.tolist()
    for part in cut:
        (alone,) = Batches("ks", lambda: None).of(encoder.readings(rows.take(part.places), None))
        assert _frame(Handler, part._statements_and_parameters) == _frame(
            Handler, alone._statements_and_parameters
        )
        assert (part.table, part.routing_key) == (batch.table, batch.routing_key)


def test_the_length_is_what_the_driver_asks_for() -> None:
    """It counts a batch's statements before it sends it."""
    assert len(EncodedRows([memoryview(b"ab"), memoryview(b"cd")], 7)) == 7
