"""Rows as JSON shows them: times in RFC 3339, numbers beyond 2^53 as text.

A browser's numbers end at 2^53, so `seq` is a string. Bytes are shown twice: exactly (base64), and as
text that can be looked at.
"""

from collections.abc import Container, Sequence
from typing import Final

import msgspec
import numpy as np

from parser.parsed import ParsedBlock
from storage.base import Connection, LedgerMinute, Reading, Rejected
from web.times import format_time


class ReadingView(msgspec.Struct, frozen=True, gc=False):
    """A reading."""

    device_id: str
    received_at: str
    seq: str
    spindle_temperature_c: float
    spindle_speed_rpm: float
    coolant_flow_lpm: float
    power_kw: float
    voltage_v: float


class LatestView(ReadingView, frozen=True, gc=False):
    """A machine's newest reading."""

    claimed_twice: bool
    """Whether two connections have sent for it within the last minutes."""


class DeviceView(msgspec.Struct, frozen=True):
    """A machine and its newest reading."""

    device_id: str
    last_seen: str
    latest: ReadingView
    claimed_twice: bool
    """Whether two connections have sent for it within the last minutes."""


class RejectView(msgspec.Struct, frozen=True):
    """A record that did not become a reading."""

    seq: str
    received_at: str
    connection: str
    peer: str
    reason: str
    field: str | None
    device_id: str | None
    place: int
    """Where it begins in its connection's stream, in bytes."""

    raw: bytes
    """Its bytes, in base64."""

    text: str
    """Its bytes for the eye: printable ASCII as it is, all else as `\\xNN`."""


class ConnectionView(msgspec.Struct, frozen=True):
    """A machine's connection, and what came over it; counts are records."""

    node: int
    connection: str
    opened_at: str
    closed_at: str | None
    why: str | None
    """Why it was closed."""

    peer: str
    identity: str | None
    bytes: int
    stored: int
    rejected: int
    unkept: int
    empty: int
    unterminated: int


class LedgerView(msgspec.Struct, frozen=True):
    """What became of the records that one node received in one minute."""

    node: int
    minute: str
    first_seq: str
    last_seq: str
    stored: int
    rejected: int
    unkept: int
    empty: int
    set_aside: int


def view_times(times: Sequence[int]) -> list[str]:
    """RFC 3339 of many times at once: 20 times as fast as one by one."""
    stamps = np.array(times, dtype="datetime64[ms]")
    texts: list[str] = np.datetime_as_string(stamps, unit="ms", timezone="UTC").tolist()
    return texts


def view_readings(readings: Sequence[Reading]) -> list[ReadingView]:
    """Readings, in their order."""
    times = view_times([reading.received_at for reading in readings])
    return [
        ReadingView(
            reading.device_id,
            received_at,
            str(reading.seq),
            reading.spindle_temperature_c,
            reading.spindle_speed_rpm,
            reading.coolant_flow_lpm,
            reading.power_kw,
            reading.voltage_v,
        )
        for reading, received_at in zip(readings, times, strict=True)
    ]


def view_rows(parsed: ParsedBlock, rows: Sequence[int]) -> list[ReadingView]:
    """Some rows of a block."""
    received_at = format_time(parsed.block.received_at)
    columns = parsed.columns
    places = list(rows)
    devices = [columns.devices[code] for code in columns.codes[places].tolist()]
    seqs = parsed.seqs[places].tolist()
    values = columns.values[:, places].T.tolist()
    return [
        ReadingView(device, received_at, str(seq), *row)
        for device, seq, row in zip(devices, seqs, values, strict=True)
    ]


def view_latest(reading: Reading, claimed_twice: Container[str]) -> LatestView:
    """A machine's newest reading."""
    (view,) = view_readings([reading])
    return LatestView(**msgspec.structs.asdict(view), claimed_twice=reading.device_id in claimed_twice)


def view_devices(readings: Sequence[Reading], claimed_twice: Container[str]) -> list[DeviceView]:
    """Machines by their newest readings."""
    return [
        DeviceView(view.device_id, view.received_at, view, view.device_id in claimed_twice)
        for view in view_readings(readings)
    ]


def view_reject(rejected: Rejected) -> RejectView:
    """A reject."""
    return RejectView(
        str(rejected.seq),
        format_time(rejected.received_at),
        str(rejected.connection),
        rejected.peer,
        rejected.reason,
        rejected.field,
        rejected.device_id,
        rejected.place,
        rejected.raw,
        show_bytes(rejected.raw),
    )


def view_connection(connection: Connection) -> ConnectionView:
    """A connection."""
    closed_at = connection.closed_at
    return ConnectionView(
        connection.node,
        str(connection.connection),
        format_time(connection.opened_at),
        None if closed_at is None else format_time(closed_at),
        connection.why,
        connection.peer,
        connection.identity,
        connection.bytes,
        connection.stored,
        connection.rejected,
        connection.unkept,
        connection.empty,
        connection.unterminated,
    )


def view_minute(minute: LedgerMinute) -> LedgerView:
    """A minute of the ledger."""
    return LedgerView(
        minute.node,
        format_time(minute.minute),
        str(minute.first_seq),
        str(minute.last_seq),
        minute.stored,
        minute.rejected,
        minute.unkept,
        minute.empty,
        minute.set_aside,
    )


_VISIBLE: Final = [
    "\\\\" if byte == ord("\\") else chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"
    for byte in range(256)
]


def show_bytes(raw: bytes) -> str:
    r"""Bytes as printable ASCII; what isn't stands as `\xNN`, and a backslash is doubled."""
    return "".join([_VISIBLE[byte] for byte in raw])
