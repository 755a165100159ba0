"""Readings straight from the bytes of an answer.

The driver makes a Python object of every value, and of a user-defined type a tuple with a list around it:
an hour of a device at 10 Hz takes it longer than the cluster. But a row that is `received_at, seq,
reading` has one layout, so a page of rows is a structured array as it stands, and with a device before it
it is a few bytes longer (native_protocol_v4.spec, 4.2.5.2). The place to put that is the driver's own: a
protocol handler with another result message, as its NumPy handler does.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from cassandra.protocol import ResultMessage, read_int
from numpy.typing import NDArray

from storage.base import Reading
from storage.cassandra.encoding import READING, Handler
from storage.errors import SchemaError

_OF_ROW: Final = ("received_at", "seq", "reading")
_OF_KEY: Final = _OF_ROW[:2]
_ENCODED: Final = frozenset({_OF_KEY, _OF_ROW, ("device_id", *_OF_ROW)})
_KEY_FIELDS: Final[list[tuple[str, Any]]] = [
    ("length_at", ">i4"),
    ("received_at", ">i8"),
    ("length_seq", ">i4"),
    ("seq", ">i8"),
]
_KEY: Final = np.dtype(_KEY_FIELDS)
_ROW: Final = np.dtype([*_KEY_FIELDS, ("length_reading", ">i4"), ("reading", READING)])
_LENGTH: Final = struct.Struct(">i")
_LACKS: Final = "a row lacks a value that all rows have; another program wrote it"


class _Answer(ResultMessage):  # type: ignore[misc]  # the driver ships no types
    """Rows as their bytes; the driver hands them on as one row: how many, and the bytes."""

    def recv_results_rows(
        self,
        f: Any,
        protocol_version: int,
        user_type_map: object,
        result_metadata: list[tuple[Any, ...]] | None,
        column_encryption_policy: object,
    ) -> None:
        """Take the rows as they come; see the driver's `ResultMessage`."""
        columns = self._columns(f, user_type_map, result_metadata)
        if columns not in _ENCODED:
            f.seek(self._rows_at)
            super().recv_results_rows(
                f, protocol_version, user_type_map, result_metadata, column_encryption_policy
            )
            return
        count = read_int(f)
        self.column_names, self.column_types = ["rows", "encoded"], [int, bytes]
        self.parsed_rows = [(count, f.read())]

    def _columns(self, f: Any, user_type_map: object, known: list[tuple[Any, ...]] | None) -> tuple[str, ...]:
        self._rows_at = f.tell()
        self.recv_results_metadata(f, user_type_map)
        return tuple(column[2] for column in self.column_metadata or known or ())


class ReadingsHandler(Handler):
    """Gives rows of `received_at, seq`, of these and `reading`, or with a device before, as bytes.

    All others come as usual.
    """

    message_types_by_opcode = {**Handler.message_types_by_opcode, _Answer.opcode: _Answer}  # noqa: RUF012  # as the driver has it


def as_keys(encoded: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Time (ms) and number of each row of a page of `received_at, seq`, both of shape (n,)."""
    page = np.frombuffer(encoded, _KEY)
    return page["received_at"].astype(np.int64), page["seq"].astype(np.int64)


def in_pieces(device_id: str, count: int, encoded: bytes, most: int) -> Iterator[list[Reading]]:
    """The readings of a page, in its order, at most so many at a time: making them takes its time.

    Raises:
        SchemaError: a row lacks a value; Headrace did not write it.
    """
    if len(encoded) != count * _ROW.itemsize:
        raise SchemaError(_LACKS)
    size = most * _ROW.itemsize
    for start in range(0, len(encoded), size):
        piece = encoded[start : start + size]
        yield _readings([device_id] * (len(piece) // _ROW.itemsize), piece)


def as_latest(count: int, encoded: bytes) -> list[Reading]:
    """The readings of a page whose rows begin with their device, in its order; may raise like `in_pieces`."""
    devices: list[str] = []
    rows: list[bytes] = []
    place = 0
    try:
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(encoded, place)
            begins = place + _LENGTH.size + length
            place = begins + _ROW.itemsize
            devices.append(encoded[begins - length : begins].decode())
            rows.append(encoded[begins:place])
    except (struct.error, UnicodeDecodeError) as error:
        raise SchemaError(_LACKS) from error
    if place != len(encoded):
        raise SchemaError(_LACKS)
    return _readings(devices, b"".join(rows))


def _readings(devices: list[str], encoded: bytes) -> list[Reading]:
    page = np.frombuffer(encoded, _ROW)
    reading = page["reading"]
    columns = [page["received_at"], page["seq"], *(reading[f"value{place}"] for place in range(5))]
    return [Reading(*row) for row in zip(devices, *(column.tolist() for column in columns), strict=True)]
