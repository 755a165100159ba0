"""Our writer without sockets: it is fed with columns that are in memory already.

What it does with them is what the sink does behind the journal: newest rows, directories and readings in one
delivery, in parts as large as those of a sink that is behind. Only books and cursor are left out, which
take four requests for each such part. The rows are those of the blaster, the devices taking turns, stamped as
if 100 000 came in a second.
"""

import time
from collections.abc import Iterator
from functools import cache
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.cassandra.shapes import FIVE_COLUMNS
from parser.block import to_seq
from parser.columns import parse_columns
from parser.settings import Rules
from simulator.blast import prepare
from storage.cassandra.connect import Connected
from storage.cassandra.encoding import Batches, Encoded, encode, readings_key, starts_of
from storage.cassandra.flight import Flight
from storage.cassandra.replicas import Replicas
from storage.cassandra.rows import RowWriter
from storage.cassandra.schema import HOUR_MS
from storage.cassandra.tables import create_tables
from storage.errors import StorageError
from storage.rows import Rows
from storage.settings import CassandraSettings

DEVICES: Final = 100
PART_ROWS: Final = 840_000
"""About as many as a sink writes at once when it is behind: 24 MiB, at 30 bytes a record."""

NODE: Final = 1
"""Another one than that of the measured servers, which may write into the same keyspace."""

_LIFE_S: Final = 90 * 86_400
_TICK_ROWS: Final = 2_000
_TICK_US: Final = 20_000
_FIRST_US: Final = (int(time.time() * 1000) // HOUR_MS - 24) * HOUR_MS * 1000
"""The beginning of an hour, a day ago."""


@cache
def _parsed() -> tuple[list[str], NDArray[np.int32], NDArray[np.float64]]:
    parsed = parse_columns(prepare(DEVICES, PART_ROWS).payload, Rules(), {})
    return parsed.devices, parsed.codes, parsed.values


def ready_rows(rows: int) -> Iterator[Rows]:
    """So many rows, in parts."""
    devices, codes, values = _parsed()
    for first in range(0, rows, PART_ROWS):
        count = min(PART_ROWS, rows - first)
        numbers = np.arange(first, first + count, dtype=np.int64)
        stamps = _FIRST_US + numbers // _TICK_ROWS * _TICK_US
        yield Rows(devices, codes[:count], stamps, to_seq(NODE, 0) + numbers, values[:, :count])


class ReadyWriter:
    """Our writer, and the same with five columns in place of the frozen type."""

    def __init__(self, settings: CassandraSettings) -> None:
        """Make the tables, its own and the one with five columns."""
        self.connected = Connected(settings)
        create_tables(self.connected, None)
        self._flight = Flight(self.connected)
        self._rows = RowWriter(self.connected, self._flight, None)
        self._mortal = RowWriter(self.connected, self._flight, _LIFE_S)
        self._batches = Batches(settings.keyspace, Replicas(self.connected).sets)

    def write(self, rows: int) -> None:
        """Deliver so many rows as the sink would."""
        for part in ready_rows(rows):
            self.deliver(part)

    def deliver(self, rows: Rows) -> None:
        """Deliver these rows, with all that goes beside them."""
        _take(self._rows.deliver(rows, NODE, ()))

    def write_mortal(self, rows: int) -> None:
        """The same with rows that expire, as with `keep_days`."""
        for part in ready_rows(rows):
            _take(self._mortal.deliver(part, NODE, ()))

    def write_five_columns(self, rows: int) -> None:
        """The same into the table with five columns."""
        insert = self.connected.prepared(f"{FIVE_COLUMNS.insert} USING TIMESTAMP ?")
        for part in ready_rows(rows):
            batches = self._batches.of([_in_five_columns(insert, part)])
            refused = self._flight.deliver(chain(self._rows.beside(part, NODE), batches))
            if refused:
                raise StorageError(str(refused[0].error))

    def requests(self) -> int:
        """How many were confirmed since the last call."""
        return self._flight.requests().confirmed

    def close(self) -> None:
        """Let go of the cluster."""
        self.connected.close()


def _take(refused: dict[int, str]) -> None:
    """Nothing that is measured may be refused."""
    if refused:
        raise StorageError(next(iter(refused.values())))


def _in_five_columns(insert: Any, rows: Rows) -> Encoded:
    """The rows by device: `Encoder.readings` with other columns, for names of one length in one hour."""
    order = np.argsort(rows.codes, kind="stable")
    names = np.array(rows.devices, f"S{len(rows.devices[0])}")[rows.codes]
    hours = rows.received_at // HOUR_MS * HOUR_MS
    columns = (names, hours, rows.received_at, rows.seqs, *rows.values, rows.stamps)
    encoded = encode(insert, [column[order] for column in columns])
    devices, hour = rows.devices, int(hours[0])
    codes = rows.codes[order]
    table, starts = FIVE_COLUMNS.table, starts_of(codes)
    return Encoded(table, encoded, order, starts, lambda row: readings_key(devices[codes[row]], hour))
