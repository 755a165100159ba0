"""Trace ids: what belongs to one request has one, from the customer's program to the supplier's.

As in W3C Trace Context (https://www.w3.org/TR/trace-context/, 3.2): `traceparent` is version, trace id,
parent id and flags, in lower-case hexadecimal. A header that is not valid is as good as none. The id lies in
the context of the task, where every logger of structlog finds it.
"""

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

TRACE_ID: Final = "trace_id"
"""Under this name it is in the context, and in additional_info."""

_LONGEST: Final = 512
_CHANCE: Final = random.Random()  # noqa: S311  # no secret, and the system's own chance takes 40 µs
_HEADER: Final = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    r"(?P<more>-[!-~]*)?"
)


def new_trace() -> str:
    """A trace id that nobody has: 32 hexadecimal digits."""
    return f"{_CHANCE.getrandbits(127) + 1:032x}"


def trace_of(traceparent: str | None) -> str:
    """The trace id of the header; a new one where there is none, or where it is not valid."""
    if traceparent is None or len(traceparent) > _LONGEST:
        return new_trace()
    found = _HEADER.fullmatch(traceparent.strip(" \t"))
    if found is None or (found["version"] == "00" and found["more"] is not None):
        return new_trace()
    return found["trace"]


def traceparent_of(trace_id: str) -> str:
    """The header for a call to somebody else within this trace."""
    return f"00-{trace_id}-{_CHANCE.getrandbits(63) + 1:016x}-01"


@contextmanager
def tracing(trace_id: str) -> Iterator[None]:
    """Within it, all that is logged bears this trace id."""
    with structlog.contextvars.bound_contextvars(**{TRACE_ID: trace_id}):
        yield


def current_trace() -> str | None:
    """The trace id that is in the context."""
    found = structlog.contextvars.get_contextvars().get(TRACE_ID)
    return None if found is None else str(found)
