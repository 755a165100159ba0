"""How the bytes of a stream are to be read.

These settings travel in every block (see `parser.block`), so that what waits in the journal is read
with the settings it came with, whatever the configuration says by then.
"""

import string
from functools import cached_property
from typing import Final

import msgspec

FIELDS: Final = (
    "device_id",
    "spindle_temperature_c",
    "spindle_speed_rpm",
    "coolant_flow_lpm",
    "power_kw",
    "voltage_v",
)
"""The six fields of a record, in the order of the tables."""

VALUES: Final = FIELDS[1:]
"""The five fields that hold numbers."""

BLANKS: Final = b" \t"
"""What may stand around a field without being data."""

BREAKS: Final = b"\r\n\0"
"""What may stand around a record without being data, beside blanks; inside, it is a reject."""

_OF_NAMES_AND_NUMBERS = frozenset(string.ascii_letters + string.digits + "+-._")
_FIELD_SEPARATORS = frozenset(string.punctuation + " \t") - _OF_NAMES_AND_NUMBERS
_RECORD_SEPARATORS = frozenset(map(chr, range(128))) - _OF_NAMES_AND_NUMBERS


class RecordSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[record]`: what a data set looks like on the wire."""

    delimiter: str = "#"
    """Ends a record: one ASCII byte that is not part of a number or a name."""

    field_delimiter: str = ","
    """Stands between two fields: one such byte, another one; no control character but the tab."""

    fields: tuple[str, ...] = FIELDS
    """The order in which the six fields come."""

    limits: dict[str, tuple[float, float]] = {}
    """Plausible values of a field, [lowest, highest] inclusive; none by default."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the key.

        Raises:
            ValueError: a key's value is not usable; the message begins with the key.
        """
        if self.delimiter not in _RECORD_SEPARATORS:
            raise ValueError(f"delimiter: {_NOT_ONE_BYTE}, for example '#'")
        if self.field_delimiter not in _FIELD_SEPARATORS:
            raise ValueError(f"field_delimiter: {_NOT_ONE_BYTE}, for example ','")
        if self.delimiter == self.field_delimiter:
            raise ValueError("field_delimiter: must differ from delimiter")
        if sorted(self.fields) != sorted(FIELDS):
            raise ValueError(f"fields: must name each of these once: {', '.join(FIELDS)}")
        for name, (low, high) in self.limits.items():
            if name not in VALUES:
                raise ValueError(f"limits.{name}: no such number; one of {', '.join(VALUES)}")
            if not low <= high:
                raise ValueError(f"limits.{name}: must be [lowest, highest]")


_NOT_ONE_BYTE = "must be one ASCII byte that is not part of a number or a name"


class Rules(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Everything that decides what becomes of a record."""

    record: RecordSettings = RecordSettings()

    max_record_bytes: int = 512
    """A record longer than this, delimiter not counted, is a reject."""

    @cached_property
    def delimiter(self) -> bytes:
        """The byte that ends a record."""
        return self.record.delimiter.encode()

    @cached_property
    def field_delimiter(self) -> bytes:
        """The byte between two fields."""
        return self.record.field_delimiter.encode()

    @cached_property
    def around_records(self) -> bytes:
        """The bytes that may surround a record; a delimiter is never among them."""
        return _without(BLANKS + BREAKS, self)

    @cached_property
    def around_fields(self) -> bytes:
        """The bytes that may surround a field; a delimiter is never among them."""
        return _without(BLANKS, self)

    @cached_property
    def breaks(self) -> bytes:
        """The bytes that no record may contain."""
        return _without(BREAKS, self)


def _without(bytes_: bytes, rules: Rules) -> bytes:
    return bytes_.translate(None, delete=rules.delimiter + rules.field_delimiter)
