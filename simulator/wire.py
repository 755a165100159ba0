"""The wire format as a machine knows it: six fields, `,` between them, `#` behind each record.

    E0001,35.2,8000,2.5,3.700,380.1#

Each value has a fixed number of decimals, as it comes from a machine that formats with `printf`.

A server that acknowledges writes `ACK,<n>#`: n records of this connection are durable so far.
"""

import re
from collections.abc import Iterable
from enum import IntEnum
from typing import Final, Generic, NamedTuple, TypeVar

from simulator.errors import AcknowledgementError

RECORD_END: Final = b"#"
FIELD_END: Final = b","

MAX_RECORD_BYTES: Final = 512
"""What a server takes by default; more is a malformed record."""

MAX_DEVICE_ID_BYTES: Final = 64

T = TypeVar("T")

_ACK: Final = re.compile(rb"ACK,([0-9]{1,19})")
_MAX_ACK_BYTES: Final = 24

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


class AckReader:
    """Reads the acknowledgements of one connection, in whatever pieces they come."""

    def __init__(self) -> None:
        self.acknowledged = 0
        """So many records are durable, from the first on."""
        self._rest = b""

    def feed(self, data: bytes, sent: int) -> None:
        """Take what the server wrote.

        Args:
            data: any piece of its stream.
            sent: records handed to the connection so far.

        Raises:
            AcknowledgementError: it is in no known form, runs backwards or ahead of what was sent.
        """
        *whole, self._rest = (self._rest + data).split(RECORD_END)
        if len(self._rest) > _MAX_ACK_BYTES:
            raise AcknowledgementError(f"the server acknowledged with {self._rest[:_MAX_ACK_BYTES]!r}...")
        for ack in whole:
            match = _ACK.fullmatch(ack)
            if match is None or not self.acknowledged <= int(match[1]) <= sent:
                known = f"{self.acknowledged} of {sent} records were acknowledged before"
                raise AcknowledgementError(f"the server acknowledged {ack!r}, where {known}")
            self.acknowledged = int(match[1])
