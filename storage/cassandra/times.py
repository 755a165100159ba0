"""Times as the driver gives them, and as we count them."""

from calendar import timegm
from datetime import datetime


def to_ms(time: datetime) -> int:
    """Milliseconds since 1970 UTC of a naive UTC time."""
    return timegm(time.utctimetuple()) * 1000 + time.microsecond // 1000


def to_ms_or_none(time: datetime | None) -> int | None:
    """The same, where there may be none."""
    return None if time is None else to_ms(time)
