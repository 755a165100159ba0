"""What can become of a record: a reading, a reject with its reason, or nothing.

A flood of rejects makes tens of thousands of these at once. They hold nothing that could hold them, so
the garbage collector need not look at them.
"""

from enum import StrEnum

import msgspec


class Reason(StrEnum):
    """Why a record was rejected: the first that applies, from the whole record to its fields."""

    OVERSIZE = "oversize"
    """Longer than `max_record_bytes`; only its beginning was kept."""

    TRUNCATED = "truncated"
    """What followed the last delimiter when the connection ended otherwise than by a clean close."""

    CONTROL = "control"
    """A line break or NUL inside the record."""

    FIELDS = "fields"
    """Not six fields."""

    DEVICE_ID = "device_id"
    """Not 1 to 64 bytes of printable ASCII."""

    NUMBER = "number"
    """Not a plain decimal number."""

    OVERFLOW = "overflow"
    """A number too large for a 64-bit float."""

    IMPLAUSIBLE = "implausible"
    """A number outside the limits configured for its field."""

    WRONG_IDENTITY = "wrong_identity"
    """Good in itself, and of a device that its sender may not send for."""


NOT_WHOLE = frozenset({Reason.OVERSIZE, Reason.TRUNCATED})
"""Their bytes are not the record that was meant."""

NEVER_REPLAYED = NOT_WHOLE | {Reason.WRONG_IDENTITY}
"""No change of settings makes them whole; and who sent them is not known to who judges them again."""


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """A record that says what it should."""

    device_id: str
    values: tuple[float, float, float, float, float]
    """In the order of `settings.VALUES`."""


class Refused(msgspec.Struct, frozen=True, gc=False):
    """A record that does not, and the first thing wrong with it."""

    reason: Reason
    field: str | None = None
    """Which field was wrong, where it was one."""

    device_id: str | None = None
    """Whose record it seems to be, where that can be read."""


class Empty(msgspec.Struct, frozen=True, gc=False):
    """Nothing between two delimiters; counted, not stored."""


Verdict = Accepted | Refused | Empty
