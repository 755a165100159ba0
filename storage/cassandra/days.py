"""The directory of what is listed by node: which nodes there are, and the days that each has anything of."""

from typing import Final

from storage.cassandra.connect import Connected
from storage.cassandra.times import to_ms

NODES: Final = "SELECT DISTINCT node FROM nodes"
DAYS: Final = "SELECT day FROM days WHERE node = ?"


def nodes_of(connected: Connected) -> list[int]:
    """All nodes that were ever claimed, ascending."""
    (rows,) = connected.ask([connected.bound(NODES)])
    return sorted(node for (node,) in rows)


def days_of(connected: Connected, *nodes: int) -> list[list[int]]:
    """The days of each of these nodes, in milliseconds, the newest first."""
    found = connected.ask([connected.bound(DAYS, node) for node in nodes])
    return [[to_ms(day) for (day,) in rows] for rows in found]
