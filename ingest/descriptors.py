"""File descriptors: as many as the connections need, and some that no stranger gets.

Each connection takes one. Journal, tables and pages take theirs from the same limit, and a server that has
none left for its journal is worse off than one that refuses a connection. So a reserve is kept for them:
the pages alone may have 512 connections, and close at once who comes beyond that (`web/places.py`).
"""

import resource
from contextlib import suppress
from typing import Final

RESERVE: Final = 640
"""Descriptors that connections of machines may not take."""


def room_for(connections: int) -> int:
    """For how many connections there is room, `connections` at most.

    The limit of this process is raised for it, as far as the system lets us.
    """
    limit = _raised(connections + RESERVE)
    if limit == resource.RLIM_INFINITY:
        return connections
    return min(connections, max(limit - RESERVE, limit // 2))


def _raised(wanted: int) -> int:
    """The limit, after trying to have as much as is wanted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < possible:
        with suppress(OSError, ValueError):  # a sandbox may forbid it; then we live with what there is
            resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
