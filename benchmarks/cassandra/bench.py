"""What all parts are told, and give back."""

from dataclasses import dataclass

from benchmarks.cassandra.target import Target
from benchmarks.report import Comparison, Figure

Found = tuple[list[Figure], list[Comparison]]


@dataclass(frozen=True, eq=False)
class Bench:
    """One run of the whole benchmark."""

    target: Target
    runs: int
    """Medians of so many."""

    rows: int
    """In each run of a fast writer."""

    backlog: int
    """Records that wait when the node goes on."""
