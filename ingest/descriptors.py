"""File descriptors: as many as the connections need, and some that no stranger gets.

Each connection takes one. Journal, tables and pages take theirs from the same limit, and a server that has
none left for its journal is worse off than one that refuses a connection. So a reserve is kept for them:
the pages alone may have 512 connections, and close at once who comes beyond that (`web/places.py`).
"""

import os
import resource
from contextlib import suppress
from typing import Final

RESERVE: Final = 640
"""Descriptors that connections of machines may not take."""

_FOR_A_PROCESS: Final = 12
"""More than the start of a process with two pipes opens meanwhile."""


def room_for(connections: int) -> int:
    """For how many connections there is room, `connections` at most.

    The limit of this process is raised for it, as far as the system lets us.
    """
    limit = _raised(connections + RESERVE)
    if limit == resource.RLIM_INFINITY:
        return connections
    return min(connections, max(limit - RESERVE, limit // 2))


def require_room() -> None:
    """See whether there is room to start a process: a start that fails halfway leaves pipes open for good.

    Raises:
        OSError: there are too few descriptors.
    """
    opened: list[int] = []
    try:
        for _ in range(_FOR_A_PROCESS):
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401  # half of them, too
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _raised(wanted: int) -> int:
    """The limit, after trying to have as much as is wanted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < possible:
        with suppress(OSError, ValueError):  # a sandbox may forbid it; then we live with what there is
            resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
