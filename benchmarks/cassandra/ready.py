"""Our writer without sockets: it is fed with columns that are in memory already.

What it does with them is what the sink does behind the journal: newest rows, directories and readings in one
delivery, in parts as large as those of a sink that is behind. Only books and cursor are left out, which
take four requests for each such part. The rows are those of the blaster, the devices taking turns, stamped as
if 100 000 came in a second.
"""

import time
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.cassandra.shapes import FIVE_COLUMNS
from parser.block import to_seq
from parser.columns import parse_columns
from parser.settings import Rules
from simulator.blast import prepare
from storage.cassandra.encoding import Batch, Partition, encode, readings_key
from storage.cassandra.schema import HOUR_MS
from storage.cassandra.writer import CassandraTableWriter
from storage.errors import StorageError
from storage.rows import Rows
from storage.settings import CassandraSettings

DEVICES: Final = 100
PART_ROWS: Final = 280_000
"""As many as a sink writes at once when it is behind: 8 MiB."""

NODE: Final = 1
"""Another one than that of the measured servers, which may write into the same keyspace."""

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
        self._writer = CassandraTableWriter(settings)
        self._writer.claim(NODE, "bench", adopt=True)
        self.connected = self._writer._connected  # noqa: SLF001  # measured beside the session's other users

    def write(self, rows: int) -> None:
        """Deliver so many rows as the sink would."""
        for part in ready_rows(rows):
            self.deliver(part)

    def deliver(self, rows: Rows) -> None:
        """Deliver these rows, with all that goes beside them."""
        writer = self._writer
        refused = writer._deliver_rows(rows, self._beside(rows))  # noqa: SLF001  # a part of `write`
        if refused:
            raise StorageError(next(iter(refused.values())))

    def write_five_columns(self, rows: int) -> None:
        """The same into the table with five columns."""
        insert = self.connected.prepared(f"{FIVE_COLUMNS.insert} USING TIMESTAMP ?")
        for part in ready_rows(rows):
            refused = self._writer._flight.deliver(self._five_columns(insert, part))  # noqa: SLF001
            if refused:
                raise StorageError(str(refused[0].error))

    def requests(self) -> int:
        """How many were confirmed since the last call."""
        return self._writer.requests().confirmed

    def close(self) -> None:
        """Let go of the cluster."""
        self._writer.close()

    def _beside(self, rows: Rows) -> Iterator[Any]:
        return self._writer._beside_rows([], rows, {})  # noqa: SLF001

    def _five_columns(self, insert: Any, rows: Rows) -> Iterator[Batch]:
        yield from self._beside(rows)
        yield from self._writer._batches.of(_in_five_columns(insert, rows))  # noqa: SLF001


def _in_five_columns(insert: Any, rows: Rows) -> Iterator[Partition]:
    """The rows by device: `Encoder.readings` with other columns, for names of one length in one hour."""
    order = np.argsort(rows.codes, kind="stable")
    names = np.array(rows.devices, f"S{len(rows.devices[0])}")[rows.codes]
    hours = rows.received_at // HOUR_MS * HOUR_MS
    columns = (names, hours, rows.received_at, rows.seqs, *rows.values, rows.stamps)
    encoded = encode(insert, [column[order] for column in columns])
    data, size = encoded.view(np.uint8).data, encoded.itemsize
    ends = np.cumsum(np.bincount(rows.codes, minlength=len(rows.devices))).tolist()
    for device, start, end in zip(rows.devices, [0, *ends], ends, strict=False):
        key = readings_key(device, int(hours[0]))
        yield Partition(key, order[start:end], data[start * size : end * size], size)
