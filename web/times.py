"""Times as programs write them: RFC 3339, or milliseconds since 1970 UTC.

Inside, a time is a whole number of milliseconds since 1970 UTC.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_MILLISECONDS: Final = re.compile(r"-?\d{1,15}", re.ASCII)
_LOST_PLUS: Final = re.compile(r" (?=\d\d:\d\d$)", re.ASCII)


def parse_time(text: str) -> int:
    """Read a time; a fraction of a millisecond counts as a whole one.

    So `start <= t < end` holds for the same whole milliseconds as with the exact times. The plus sign of
    an offset may have become a space, as it does where a query is not encoded.

    Raises:
        ValueError: it is neither RFC 3339 nor a number of milliseconds.
    """
    if _MILLISECONDS.fullmatch(text):
        return int(text)
    text = _LOST_PLUS.sub("+", text)
    if not _RFC_3339.fullmatch(text):
        raise ValueError("must be like 2024-07-24T21:51:36.590Z, or milliseconds since 1970 UTC")
    return -((_EPOCH - datetime.fromisoformat(text.upper())) // _MILLISECOND)


def format_time(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    at = _EPOCH + ms * _MILLISECOND
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
