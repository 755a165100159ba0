"""All parts of `headrace bench cassandra`, or some, against one node in one run."""

from collections.abc import Callable, Collection
from contextlib import closing
from typing import Final

import click

from benchmarks.cassandra.backlog import backlog
from benchmarks.cassandra.bench import Bench, Found
from benchmarks.cassandra.files import files
from benchmarks.cassandra.growth import growth
from benchmarks.cassandra.latency import latency
from benchmarks.cassandra.reading import read
from benchmarks.cassandra.ready import ReadyWriter
from benchmarks.cassandra.sockets import sockets
from benchmarks.cassandra.target import open_target
from benchmarks.cassandra.writers import shape, writers
from benchmarks.report import Comparison, Figure

PARTS: Final[dict[str, Callable[[Bench], Found]]] = {
    "writers": writers,
    "shape": shape,
    "sockets": sockets,
    "latency": latency,
    "growth": growth,
    "files": files,
    "read": read,
    "backlog": backlog,
}

_WARMING_ROWS: Final = 3_000_000
"""By then the node has compiled what it needs for writing."""


def run(runs: int, rows: int, waiting: int, only: Collection[str]) -> Found:
    """Measure the parts named in `only`, all where it is empty; `waiting` records are the backlog."""
    figures: list[Figure] = []
    comparisons: list[Comparison] = []
    with open_target() as target:
        bench = Bench(target, runs, rows, waiting)
        _warm_up(bench)
        for name, part in PARTS.items():
            if name in only or not only:
                click.echo(f"measuring {name}", err=True)
                found = part(bench)
                figures += found[0]
                comparisons += found[1]
    return figures, comparisons


def _warm_up(bench: Bench) -> None:
    with bench.target.keyspace() as settings, closing(ReadyWriter(settings)) as ours:
        ours.write(min(2 * bench.rows, _WARMING_ROWS))
