"""What the cluster refuses for good, of one table and not of the others: nothing vanishes, whichever it is.

The refusals are made up: requests that hold certain rows never reach the node, all others do.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from cassandra import InvalidRequest

from storage.cassandra.connect import Connected
from storage.cassandra.encoding import DEVICE_BUCKETS, FEW_ROWS, LATEST_READINGS, READINGS, Batch, shard_of
from storage.cassandra.flight import Flight
from storage.cassandra.rows import RowWriter
from storage.cassandra.schema import HOUR_MS
from storage.cassandra.tables import use
from storage.cassandra.writer import CassandraTableWriter
from storage.errors import SchemaError, StorageError, StoreUnavailableError
from storage.reconcile import reconcile
from storage.rows import Rows
from storage.settings import CassandraSettings, RejectQuota
from tests.storage.building import JOURNAL, Machinery, opened, record
from tests.storage.stores import CassandraStore

pytestmark = pytest.mark.cassandra

DEVICES = [f"E{number:04}" for number in range(40)] + [f"LONGER{number:02}" for number in range(20)]
_NAMES = re.compile(rb"E\d{4}|LONGER\d\d")

Refuse = Callable[[Batch], bool]


class Refused:
    """The answer to a request that the cluster would never take."""

    def __init__(self, why: str) -> None:
        self._why = why

    def add_callbacks(self, _confirmed: object, failed: Callable[[Exception], None]) -> None:
        """Come at once."""
        failed(InvalidRequest(self._why))


@pytest.fixture
def store(tmp_path: Path, cassandra_settings: CassandraSettings) -> CassandraStore:
    return CassandraStore(tmp_path, RejectQuota(), cassandra_settings)


@pytest.fixture
def writer(store: CassandraStore) -> Iterator[CassandraTableWriter]:
    writer = store.writer()
    writer.claim(3, JOURNAL, adopt=False)
    yield writer
    writer.close()


@pytest.fixture
def tables(store: CassandraStore) -> Iterator[Connected]:
    """To look at what is there."""
    with closing(Connected(store.settings)) as connected:
        yield use(connected)


def _refuse(
    patched: pytest.MonkeyPatch,
    writer: CassandraTableWriter,
    table: str,
    refuse: Refuse,
    why: str = "not this one",
) -> None:
    """Have these batches of a table refused, and all single statements that write into it."""
    session = writer._connected.session
    execute = session.execute_async

    def answer(statement: object, *values: object, **options: object) -> object:
        if isinstance(statement, Batch):
            refused = statement.table == table and refuse(statement)
        else:
            prepared = getattr(statement, "prepared_statement", None)
            refused = prepared is not None and prepared.query_string.startswith(f"INSERT INTO {table} ")
        if refused:
            return Refused(why)
        return execute(statement, *values, **options)

    patched.setattr(session, "execute_async", answer)


def _names(batch: Batch) -> set[bytes]:
    """The devices whose rows it has."""
    return set(_NAMES.findall(b"".join(batch._statements_and_parameters.pieces)))


def _devices(tables: Connected, table: str) -> list[str]:
    return sorted(str(device) for (device,) in tables.execute(f"SELECT device_id FROM {table}"))  # noqa: S608


def _check_books(store: CassandraStore, stored: int, aside: int) -> None:
    with closing(store.books()) as books:
        found = reconcile(books, waiting=None)
    assert found.findings == []
    assert (found.stored, found.readings, found.set_aside) == (stored, stored, aside)


@pytest.mark.parametrize("table", [LATEST_READINGS, DEVICE_BUCKETS])
def test_a_batch_beside_the_rows_that_is_too_large_is_cut_within_its_table(
    writer: CassandraTableWriter,
    store: CassandraStore,
    tables: Connected,
    table: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Newest rows and directories are there afterwards, and no reading is set aside."""
    _refuse(monkeypatch, writer, table, lambda batch: len(batch.places) > 5)
    sent = b"".join(map(record, DEVICES))
    block = Machinery().block([(1, sent + record("E0007", 50.0))], events=(opened(1),))
    assert writer.write(None, [block], JOURNAL).set_aside == 0
    assert _devices(tables, LATEST_READINGS) == DEVICES
    assert _devices(tables, DEVICE_BUCKETS) == DEVICES
    newest = tables.execute(
        "SELECT seq, reading.spindle_temperature_c FROM latest_readings"
        " WHERE shard = %s AND device_id = 'E0007'",
        shard_of("E0007"),
    )
    assert newest == [(int(block.seqs[-1]), 50.0)]
    assert tables.execute("SELECT seq FROM set_aside_records") == []
    _check_books(store, stored=61, aside=0)


@pytest.mark.parametrize("table", [LATEST_READINGS, DEVICE_BUCKETS])
def test_a_row_beside_the_rows_that_is_refused_alone_is_waited_for(
    writer: CassandraTableWriter,
    store: CassandraStore,
    tables: Connected,
    table: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The write fails and says why, nothing is set aside; written again later, all is there."""
    blocks = [Machinery().block([(1, b"".join(map(record, DEVICES)))], events=(opened(1),))]
    with monkeypatch.context() as patched:
        _refuse(patched, writer, table, lambda batch: b"E0007" in _names(batch))
        for _ in range(2):
            with pytest.raises(SchemaError, match="not this one"):
                writer.write(None, blocks, JOURNAL)
            assert tables.execute("SELECT seq FROM set_aside_records") == []
    assert writer.write(None, blocks, JOURNAL).set_aside == 0
    assert _devices(tables, LATEST_READINGS) == DEVICES
    assert _devices(tables, DEVICE_BUCKETS) == DEVICES
    _check_books(store, stored=60, aside=0)


def test_readings_that_are_refused_are_set_aside_and_no_other(
    writer: CassandraTableWriter, store: CassandraStore, tables: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its values and the reason, from batches of one device and of many."""
    _refuse(monkeypatch, writer, READINGS, lambda batch: bool(_names(batch) & {b"E0007", b"LONGER03"}))
    sent = b"".join(map(record, DEVICES)) + record("E0007", 50.0) * 700
    block = Machinery().block([(1, sent)], events=(opened(1),))
    assert writer.write(None, [block], JOURNAL).set_aside == 702
    aside = tables.execute("SELECT device_id, why FROM set_aside_records")
    assert sorted(aside) == [("E0007", "not this one")] * 701 + [("LONGER03", "not this one")]
    assert _devices(tables, READINGS) == sorted({*DEVICES} - {"E0007", "LONGER03"})
    _check_books(store, stored=58, aside=702)


def test_what_is_set_aside_lives_as_long_as_rejects_do(
    store: CassandraStore, tables: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It expires by itself, so that its files go whole; as long as servers run it is deleted before that."""
    with closing(CassandraTableWriter(store.settings, RejectQuota(), keep_days=2.0)) as writer:
        writer.claim(3, JOURNAL, adopt=False)
        _refuse(monkeypatch, writer, READINGS, lambda batch: b"E0007" in _names(batch))
        machinery = Machinery()
        block = machinery.block([(1, record("E0001") + record("E0007") * 2 + b"bad#")], events=(opened(1),))
        assert writer.write(None, [block], JOURNAL).set_aside == 2
        (reject,) = tables.execute("SELECT ttl(raw) FROM rejected_records")
        lives = tables.execute("SELECT ttl(why) FROM set_aside_records")
        assert len(lives) == 2
        assert all(abs(int(life) - int(reject[0])) < 60 for (life,) in lives)
        while writer.purge(machinery.at + 2 * HOUR_MS):
            pass
    assert tables.execute("SELECT seq FROM set_aside_records") == []


def test_a_guardrail_is_no_rows_fault(
    writer: CassandraTableWriter, store: CassandraStore, tables: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is too full refuses the partitions that lie on it: the writer waits until it isn't."""
    why = "Guardrail replica_disk_usage violated: disk is full"
    block = Machinery().block([(1, b"".join(map(record, DEVICES)))], events=(opened(1),))
    with monkeypatch.context() as patched:
        _refuse(patched, writer, READINGS, lambda batch: b"E0007" in _names(batch), why)
        with pytest.raises(StoreUnavailableError, match=why):
            writer.write(None, [block], JOURNAL)
    assert tables.execute("SELECT seq FROM set_aside_records") == []
    assert writer.write(None, [block], JOURNAL).set_aside == 0
    _check_books(store, stored=60, aside=0)


@pytest.mark.parametrize(("others", "moves"), [(1_600, True), (1_000, False)])
def test_only_more_than_half_of_a_large_write_is_trouble_of_another_kind(
    writer: CassandraTableWriter,
    store: CassandraStore,
    tables: Connected,
    others: int,
    monkeypatch: pytest.MonkeyPatch,
    *,
    moves: bool,
) -> None:
    """Then it fails and says why, and nothing is set aside; else the queue moves, however many they are."""
    _refuse(monkeypatch, writer, READINGS, lambda batch: b"E0007" in _names(batch))
    sent = record("E0007") * 1_500 + record("E0001") * others
    block = Machinery().block([(1, sent)], events=(opened(1),))
    if moves:
        assert writer.write(None, [block], JOURNAL).set_aside == 1_500
        _check_books(store, stored=others, aside=1_500)
        return
    with pytest.raises(StorageError, match=r"more than half of all rows are refused, .*not this one"):
        writer.write(None, [block], JOURNAL)
    assert tables.execute("SELECT seq FROM set_aside_records") == []


def test_a_reject_that_is_refused_is_waited_for(
    writer: CassandraTableWriter, store: CassandraStore, tables: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can't be set aside, so nothing is, also of readings that are refused at the same time."""
    blocks = [Machinery().block([(1, record("E0001") + record("E0007") + b"bad#")], events=(opened(1),))]
    with monkeypatch.context() as patched:
        _refuse(patched, writer, READINGS, lambda batch: b"E0007" in _names(batch))
        _refuse(patched, writer, "rejected_records", lambda _: False)
        with pytest.raises(SchemaError, match="not this one"):
            writer.write(None, blocks, JOURNAL)
    assert tables.execute("SELECT seq FROM set_aside_records") == []
    assert writer.write(None, blocks, JOURNAL).set_aside == 0
    _check_books(store, stored=2, aside=0)


@pytest.mark.parametrize("rows_each", [1, 7, 30, FEW_ROWS - 1])
def test_batches_are_below_what_a_node_takes(tables: Connected, rows_each: int) -> None:
    """Of all three tables, full of the longest names, with rows that expire; none has to be cut."""
    names = [f"{place:064}" for place in range(3_000 // rows_each)]
    number = rows_each * len(names)
    rows = Rows(
        names,
        np.repeat(np.arange(len(names), dtype=np.int32), rows_each),
        (HOUR_MS * 1_000 + np.arange(number)) * 1_000,
        np.arange(number),
        np.ones((5, number)),
    )
    flight = Flight(tables)
    assert RowWriter(tables, flight, life_s=86_400).deliver(rows, 3, ()) == {}
    found = flight.requests()
    assert found.refused == 0
    assert found.confirmed > 3, "nothing was shared by several batches"
