"""The part `read`: reading while the whole way writes at half the ceiling.

Read are the newest row of a thousand devices, and an hour of one device at 10 Hz; the hour also by the driver
as its users know it, which can make different things of a row. A read of each begins every second, or when
those before have ended: people look at a few pages, and all share the machine. The hours were written before;
what comes in meanwhile is of a thousand other devices.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from cassandra import numpy_parser
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.io.libevreactor import LibevConnection
from cassandra.protocol import NumpyProtocolHandler
from cassandra.query import dict_factory, named_tuple_factory, tuple_factory

from benchmarks.cassandra.bench import Bench, Found
from benchmarks.cassandra.ready import NODE, PART_ROWS, ReadyWriter
from benchmarks.cassandra.sockets import PREPARED, ceiling
from benchmarks.report import Figure, compare, middle, p99_of, percentiles
from benchmarks.running import child, sending
from parser.block import to_seq
from parser.settings import VALUES
from simulator.blast import prepare
from simulator.wire import device_name
from storage.cassandra.reader import CassandraReadingStore
from storage.cassandra.schema import HOUR_MS
from storage.rows import Rows
from storage.settings import CassandraSettings

_DEVICES: Final = 1_000
_HOUR_ROWS: Final = 36_000
_EVERY_MS: Final = 100
_READS: Final = 100
_FEWEST_READS: Final = 5
_ROWS_FOR_A_READ: Final = 10_000
"""A run with few rows is quick here too."""

_WARMING_READS: Final = 10
_PACE_S: Final = 1.0
"""From the beginning of reads to the next ones'."""

_FEWER: Final = 5
"""The driver reads this part of it: it takes longer."""

_LOOK_S: Final = 0.05

_FIELDS: Final = ", ".join(f"reading.{name}" for name in VALUES)


def _native(values: Any) -> Any:
    """Big-endian values as the machine's own."""
    if values.dtype.kind == "O":
        return values
    return values.byteswap().view(values.dtype.newbyteorder())


numpy_parser.make_native_byteorder = _native
"""The driver's (3.30.1) calls a method that NumPy 2 has no more, and then gives no rows at all."""


class Way(NamedTuple):
    """What the driver makes of an hour."""

    name: str
    selected: str
    row_factory: Any
    handler: Any = None


_WAYS: Final = (
    Way("named tuples (the default)", _FIELDS, named_tuple_factory),
    Way("dicts", _FIELDS, dict_factory),
    Way("tuples with the frozen value", "reading", tuple_factory),
    Way("NumPy arrays", _FIELDS, tuple_factory, NumpyProtocolHandler),
)


class Hours(NamedTuple):
    """What was written before."""

    devices: list[str]
    start: int
    """Of the hour, in milliseconds."""

    reads: int
    """How often each thing is read."""

    @property
    def some_device(self) -> str:
        """Any of them."""
        return random.choice(self.devices)  # noqa: S311  # no secret


def read(bench: Bench) -> Found:
    """Newest rows and hours, while rows come in."""
    rate = ceiling(bench) / 2
    rounds = [_read(bench, rate) for _ in range(bench.runs)]
    figures = [middle(list(of_one), by=p99_of) for of_one in zip(*rounds, strict=True)]
    newest, hour, *by_driver = figures
    return figures, [
        compare(f"{newest.name} p99, ms", p99_of(newest), at_most=200),
        compare(f"{hour.name} p99, ms", p99_of(hour), at_most=500),
        *(compare(f"{hour.name} / {other.name}", hour.rate / other.rate) for other in by_driver),
    ]


def _read(bench: Bench, rate: float) -> list[Figure]:
    with bench.target.keyspace() as settings:
        hours = _write_hours(settings, bench.rows)
        bench.target.rest()
        with (
            child("cassandra", cassandra=settings) as measured,
            sending(measured.ports[0], prepare(_DEVICES, PREPARED), rate),
        ):
            figures = asyncio.run(_by_store(settings, hours)) + _by_driver(settings, hours)
            outcome = measured.finish(None)
    meanwhile = f", {outcome.processed / outcome.seconds:,.0f} rows/s written meanwhile"
    return [msgspec.structs.replace(figure, note=figure.note + meanwhile) for figure in figures]


def _write_hours(settings: CassandraSettings, rows: int) -> Hours:
    """As many devices as have a whole hour in so many rows, in the order in which they would have come."""
    devices = [f"H{number:04}" for number in range(1, max(1, rows // _HOUR_ROWS) + 1)]
    start = (int(time.time() * 1000) // HOUR_MS - 1) * HOUR_MS
    total = min(rows, _HOUR_ROWS) * len(devices)
    chance = np.random.default_rng(1)
    with closing(ReadyWriter(settings)) as ours:
        for first in range(0, total, PART_ROWS):
            numbers = np.arange(first, min(first + PART_ROWS, total), dtype=np.int64)
            times = start + numbers // len(devices) * _EVERY_MS
            codes = (numbers % len(devices)).astype(np.int32)
            values = chance.random((len(VALUES), len(numbers)))
            ours.deliver(Rows(devices, codes, times * 1000, to_seq(NODE, 0) + numbers, values))
    reads = min(_READS, max(_FEWEST_READS, rows // _ROWS_FOR_A_READ))
    return Hours(devices, start, reads)


async def _by_store(settings: CassandraSettings, hours: Hours) -> list[Figure]:
    store = CassandraReadingStore(settings)

    async def newest() -> int:
        return len(await store.devices(limit=_DEVICES))

    async def hour() -> int:
        found = await store.history(
            hours.some_device, hours.start, hours.start + HOUR_MS, limit=2 * _HOUR_ROWS
        )
        return len(found)

    try:
        await _until_all_came(store)
        return await _timed({f"newest of {_DEVICES:,} devices": newest, "hour: our store": hour}, hours.reads)
    finally:
        await store.close()


async def _until_all_came(store: CassandraReadingStore) -> None:
    """Those that send are before those of the hours."""
    last = device_name(_DEVICES - 1)
    while (await store.devices(limit=_DEVICES))[-1].device_id != last:  # noqa: ASYNC110  # it is in the cluster
        await asyncio.sleep(_LOOK_S)


async def _timed(readings: dict[str, Callable[[], Awaitable[int]]], reads: int) -> list[Figure]:
    """Each of these in turn, so often, after a few that are not counted: the node gets used to them."""
    taken: dict[str, list[float]] = {name: [] for name in readings}
    rows = dict.fromkeys(readings, 0)
    for read in range(-min(_WARMING_READS, reads), reads):
        started = time.perf_counter()
        for name, reading in readings.items():
            begun = time.perf_counter()
            found = await reading()
            if read >= 0:
                taken[name].append(time.perf_counter() - begun)
                rows[name] += found
        await asyncio.sleep(max(0.0, started + _PACE_S - time.perf_counter()))
    return [_figure(name, rows[name], taken[name]) for name in readings]


def _by_driver(settings: CassandraSettings, hours: Hours) -> list[Figure]:
    figures = []
    for way in _WAYS:
        with _session(settings, way) as session:
            figures.append(_hours_by_driver(session, way, hours))
    return figures


def _hours_by_driver(session: Session, way: Way, hours: Hours) -> Figure:
    statement = session.prepare(
        f"SELECT received_at, seq, {way.selected} FROM readings WHERE device_id = ? AND bucket = ?"  # noqa: S608
    )
    list(session.execute(statement, (hours.some_device, hours.start)))
    taken: list[float] = []
    rows = 0
    for _ in range(max(1, hours.reads // _FEWER)):
        begun = time.perf_counter()
        found = list(session.execute(statement, (hours.some_device, hours.start)))
        taken.append(time.perf_counter() - begun)
        rows += len(found) if way.handler is None else sum(len(page["seq"]) for page in found)
        time.sleep(max(0.0, _PACE_S - taken[-1]))
    return _figure(f"hour: {way.name}", rows, taken)


@contextmanager
def _session(settings: CassandraSettings, way: Way) -> Iterator[Session]:
    cluster = Cluster(
        list(settings.contact_points),
        port=settings.port,
        connection_class=LibevConnection,
        execution_profiles={EXEC_PROFILE_DEFAULT: ExecutionProfile(row_factory=way.row_factory)},
    )
    try:
        session = cluster.connect(settings.keyspace)
        if way.handler is not None:
            session.client_protocol_handler = way.handler
        yield session
    finally:
        cluster.shutdown()


def _figure(name: str, rows: int, taken: list[float]) -> Figure:
    return Figure(
        name=name,
        rate=rows / sum(taken),
        unit="rows/s",
        percentiles_ms=percentiles(taken),
        note=f"{len(taken)} reads of {rows // len(taken):,} rows",
    )
