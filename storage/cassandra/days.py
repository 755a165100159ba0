"""The directory of what is listed by node: which nodes there are, and the days that each has anything of.

A day is noted with the time at which that is done, and so is forgotten: what an old backlog brings for a day
that was forgotten is found again.
"""

import time
from typing import Any, Final

from storage.cassandra.connect import Connected
from storage.cassandra.times import to_ms

NODES: Final = "SELECT DISTINCT node FROM nodes"
DAYS: Final = "SELECT day FROM days WHERE node = ?"
_NOTE: Final = "INSERT INTO days (node, day) VALUES (?, ?) USING TIMESTAMP ?"
_FORGET: Final = "DELETE FROM days USING TIMESTAMP ? WHERE node = ? AND day = ?"


def nodes_of(connected: Connected) -> list[int]:
    """All nodes that were ever claimed, ascending."""
    (rows,) = connected.ask([connected.bound(NODES)])
    return sorted(node for (node,) in rows)


def days_of(connected: Connected, *nodes: int) -> list[list[int]]:
    """The days of each of these nodes, in milliseconds, the newest first."""
    found = connected.ask([connected.bound(DAYS, node) for node in nodes])
    return [[to_ms(day) for (day,) in rows] for rows in found]


def note_day(connected: Connected, node: int, day: int, stamp_us: int) -> Any:
    """The statement that notes a day of which something with this stamp was written."""
    return connected.bound(_NOTE, node, day, max(stamp_us, time.time_ns() // 1000))


def forget_day(connected: Connected, node: int, day: int, stamp_us: int) -> Any:
    """The statement that forgets a day of which nothing is left, that had nothing newer than this stamp."""
    return connected.bound(_FORGET, max(stamp_us, time.time_ns() // 1000), node, day)
