"""Readings as CSV and as an Arrow stream: the one place here that talks to pyarrow, which has no types.

Both have the columns of the table `readings` in its order. Arrow keeps the numbers (`seq` as int64, times
as UTC timestamps in milliseconds); CSV has text as in JSON.
"""

from collections.abc import Sequence
from typing import Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc

from parser.settings import VALUES
from storage.base import Reading
from web.views import view_times

_KEY: Final = [
    ("device_id", pa.string()),
    ("received_at", pa.timestamp("ms", tz="UTC")),
    ("seq", pa.int64()),
]
_SCHEMA: Final = pa.schema([*_KEY, *((name, pa.float64()) for name in VALUES)])


def encode_arrow(readings: Sequence[Reading]) -> bytes:
    """The readings as an Arrow IPC stream of one record batch."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, _SCHEMA) as stream:
        stream.write_table(_table(readings))
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def encode_csv(readings: Sequence[Reading]) -> bytes:
    """The readings as CSV with a header line; text stands in quotes."""
    table = _table(readings)
    times = view_times([reading.received_at for reading in readings])
    table = table.set_column(1, "received_at", pa.array(times, pa.string()))
    table = table.set_column(2, "seq", table.column("seq").cast(pa.string()))
    sink = pa.BufferOutputStream()
    pa.csv.write_csv(table, sink)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def _table(readings: Sequence[Reading]) -> pa.Table:
    columns = [
        pa.array([getattr(reading, field.name) for reading in readings], field.type) for field in _SCHEMA
    ]
    return pa.table(columns, schema=_SCHEMA)
