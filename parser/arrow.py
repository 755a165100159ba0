"""The one place that talks to pyarrow's CSV reader, which carries no types.

The reader is given text whose records end with a line feed, and options that make it take numbers as
`parser.reference` does, with these differences that the caller has to catch: it takes `nan`, `inf` and
numbers too large as non-finite floats; it knows nothing of what a device's name may be; a byte order
mark at the very beginning would vanish; CR ends a line; empty lines vanish.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from parser.settings import VALUES, RecordSettings

_DEVICE: Final = pa.dictionary(pa.int32(), pa.binary())
_TYPES: Final = {"device_id": _DEVICE} | dict.fromkeys(VALUES, pa.float64())
_CONVERT: Final = pyarrow.csv.ConvertOptions(
    column_types=_TYPES,
    null_values=[],
    true_values=[],
    false_values=[],
    strings_can_be_null=False,
    check_utf8=False,
)

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class RefusedTextError(ValueError):
    """The reader met something that is not six fields of the right types."""


@dataclass(frozen=True, slots=True)
class Table:
    """The typed columns of a text: rows in its order."""

    names: list[bytes]
    """The device fields that occur, as they stand in the text."""

    codes: NDArray[np.int32]
    """Shape (rows,): which of `names` each row's device is."""

    values: NDArray[np.float64]
    """Shape (5, rows), in the order of `settings.VALUES`."""

    @classmethod
    def empty(cls) -> "Table":
        """A table without rows, for a text without records."""
        return cls([], np.empty(0, np.int32), np.empty((len(VALUES), 0)))

    @classmethod
    def of(cls, table: pa.Table) -> "Table":
        """The columns of pyarrow's table, copied out of it."""
        device = table.column("device_id").combine_chunks()
        values = np.stack([table.column(name).to_numpy() for name in VALUES])
        return cls(device.dictionary.to_pylist(), device.indices.to_numpy(), values)


def read_csv(text: bytes, record: RecordSettings) -> Table:
    """The columns of a text whose records end with a line feed.

    Raises:
        RefusedTextError: one of its records doesn't have six fields of the right types.
    """
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(text),
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, column_names=list(record.fields), block_size=len(text) + 1
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=record.field_delimiter, quote_char=False, double_quote=False
            ),
            convert_options=_CONVERT,
        )
    except pa.ArrowInvalid as error:
        raise RefusedTextError(str(error)) from error
    return Table.of(table)
