"""The wire format as a machine knows it: six fields, `,` between them, `#` behind each record.

    E0001,35.2,8000,2.5,3.700,380.1#

Each value has a fixed number of decimals, as it comes from a machine that formats with `printf`.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final, Generic, NamedTuple, TypeVar

RECORD_END: Final = b"#"
FIELD_END: Final = b","

MAX_RECORD_BYTES: Final = 512
"""What a server takes by default; more is a malformed record."""

MAX_DEVICE_ID_BYTES: Final = 64

T = TypeVar("T")

_FORMAT: Final = b"%s,%.1f,%.0f,%.2f,%.3f,%.1f#"


class Verdict(IntEnum):
    """What a server has to make of a record."""

    VALID = 0
    """A row."""

    INVALID = 1
    """A reject."""

    EMPTY = 2
    """Nothing, but a count."""


class Values(NamedTuple, Generic[T]):
    """The five values of a record, in the order of the wire."""

    spindle_temperature_c: T
    spindle_speed_rpm: T
    coolant_flow_lpm: T
    power_kw: T
    voltage_v: T


def device_name(index: int) -> str:
    """The id of a device, counted from 0: `E0001`, and longer from the 10 000th on."""
    return f"E{index + 1:04d}"


def encode(names: Iterable[bytes], rows: Iterable[tuple[float, ...]]) -> list[bytes]:
    """Records as bytes, delimiters included.

    Args:
        names: the device's id, for each record.
        rows: the five values of each, in the order of `Values`.
    """
    return [_FORMAT % (name, *row) for name, row in zip(names, rows, strict=True)]
