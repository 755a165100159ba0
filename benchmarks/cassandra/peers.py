"""The writers that others would use, set up as a careful user would.

They share our connection's settings (libev, protocol version 4, no compression, token-aware), get Python
values that were made before the clock starts, and keep a fixed number of requests under way. That number and
the rows of a batch are constants that were chosen by hand: no run that tries others is kept. Rows are in
batches of one partition, where they are in batches; the devices take turns, so that not all that is under way
is for one of them.
"""

import asyncio
import gc
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from importlib import import_module
from itertools import groupby, zip_longest
from operator import itemgetter
from threading import Semaphore
from typing import Any, Final
from warnings import catch_warnings, simplefilter

from cassandra.query import BatchStatement, BatchType

from benchmarks.cassandra.ready import ready_rows
from benchmarks.cassandra.shapes import FROZEN, Shape
from storage.cassandra.connect import Connected
from storage.cassandra.schema import HOUR_MS
from storage.settings import CassandraSettings

Values = tuple[Any, ...]
"""Those of one row, in the order of the statement that inserts it."""

BATCH_ROWS: Final = 200
ROWS_IN_FLIGHT: Final = 128
BATCHES_IN_FLIGHT: Final = 32


def python_rows(shape: Shape, rows: int) -> list[Values]:
    """The rows that our writer gets, as Python values and in the order in which they come."""
    found: list[Values] = []
    for part in ready_rows(rows):
        names = [part.devices[code] for code in part.codes.tolist()]
        times = part.received_at
        values = zip(*part.values.tolist(), strict=True)
        kept = ((value,) for value in values) if shape is FROZEN else values
        keys = zip(
            names, (times // HOUR_MS * HOUR_MS).tolist(), times.tolist(), part.seqs.tolist(), strict=True
        )
        found += [(*key, *value) for key, value in zip(keys, kept, strict=True)]
    return found


def in_batches(rows: Iterable[Values]) -> list[Sequence[Values]]:
    """Two hundred of one device each, as far as there are so many."""
    by_device = (list(group) for _, group in groupby(sorted(rows, key=itemgetter(0)), key=itemgetter(0)))
    batches = (
        [of_device[start : start + BATCH_ROWS] for start in range(0, len(of_device), BATCH_ROWS)]
        for of_device in by_device
    )
    return [batch for turn in zip_longest(*batches) for batch in turn if batch]


def row_by_row(connected: Connected, shape: Shape, rows: Sequence[Values]) -> None:
    """A prepared statement for each row."""
    insert = connected.prepared(shape.insert)
    _keep_in_flight(connected, map(insert.bind, rows), ROWS_IN_FLIGHT)


def driver_batches(connected: Connected, shape: Shape, batches: Iterable[Sequence[Values]]) -> None:
    """The driver's own batches."""
    insert = connected.prepared(shape.insert)
    _keep_in_flight(connected, map(partial(_driver_batch, insert), batches), BATCHES_IN_FLIGHT)


def _driver_batch(insert: Any, rows: Sequence[Values]) -> Any:
    batch = BatchStatement(BatchType.UNLOGGED)
    for row in rows:
        batch.add(insert, row)
    return batch


def _keep_in_flight(connected: Connected, statements: Iterator[Any], number: int) -> None:
    """Send all, so many under way; the first error is raised."""
    slots = Semaphore(number)
    errors: list[BaseException] = []

    def done(error: object) -> None:
        if isinstance(error, BaseException):
            errors.append(error)
        slots.release()

    for statement in statements:
        slots.acquire()
        connected.session.execute_async(statement).add_callbacks(done, done)
    for _ in range(number):
        slots.acquire()
    if errors:
        raise errors[0]


def in_seconds(batches: Iterable[Sequence[Values]]) -> list[Sequence[Values]]:
    """The same with times as acsylla takes them fastest: seconds, where the driver takes milliseconds."""
    return [
        [(device, bucket / 1000, received_at / 1000, *rest) for device, bucket, received_at, *rest in batch]
        for batch in batches
    ]


class Acsylla:
    """The C++ driver behind asyncio; it is optional, and may be missing."""

    def __init__(self, settings: CassandraSettings) -> None:
        """Connect.

        Raises:
            ImportError: it is not installed.
        """
        self._acsylla: Any = import_module("acsylla")
        self._settings = settings
        self._runner = asyncio.Runner()
        self._session: Any = self._runner.run(self._connect())
        self._prepared: dict[str, Any] = {}

    def write(self, shape: Shape, batches: Sequence[Sequence[Values]]) -> None:
        """Its own batches, of rows with their times in seconds."""
        self._runner.run(self._write(shape, batches))

    def close(self) -> None:
        """Let go of the cluster."""
        self._runner.run(self._session.close())
        self._runner.close()
        with catch_warnings():
            simplefilter("ignore", ResourceWarning)  # it leaves sockets to the collector
            del self._session, self._prepared
            gc.collect()

    async def _connect(self) -> Any:
        settings = self._settings
        cluster = self._acsylla.create_cluster(
            list(settings.contact_points),
            port=settings.port,
            protocol_version=4,
            consistency=settings.consistency,
            log_level="critical",
        )
        return await cluster.create_session(keyspace=settings.keyspace)

    async def _write(self, shape: Shape, batches: Sequence[Sequence[Values]]) -> None:
        if shape.insert not in self._prepared:
            self._prepared[shape.insert] = await self._session.create_prepared(shape.insert)
        waiting = iter(batches)
        insert = self._prepared[shape.insert]
        async with asyncio.TaskGroup() as group:
            for _ in range(BATCHES_IN_FLIGHT):
                group.create_task(self._send(insert, waiting))

    async def _send(self, insert: Any, waiting: Iterator[Sequence[Values]]) -> None:
        for rows in waiting:
            batch = self._acsylla.create_batch_unlogged()
            for row in rows:
                batch.add_statement(insert.bind(row))
            await self._session.execute_batch(batch)
