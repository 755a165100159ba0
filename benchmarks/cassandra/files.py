"""The part `files`: what rows take on the disk, and what each way of compacting them costs.

The table is flushed every two seconds, so that a few hundred thousand rows make a file and there is something
to compact. A run ends when the node has nothing left to do; what it took until then counts.
"""

import time
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.cassandra.bench import Bench, Found
from benchmarks.cassandra.ready import ReadyWriter
from benchmarks.cassandra.target import Stopwatch
from benchmarks.report import Figure, compare, middle
from devcluster import Node

_STRATEGIES: Final = {
    "TimeWindow": "",
    "Unified": "{'class': 'UnifiedCompactionStrategy'}",
    "SizeTiered": "{'class': 'SizeTieredCompactionStrategy'}",
}
"""The first is how the table is made."""

_FLUSH_MS: Final = 2_000


def files(bench: Bench) -> Found:
    """Each way of compacting in turn; nothing where the node's files can't be looked at."""
    node = bench.target.node
    if node is None:
        return [], []
    rounds = [[_one(bench, node, name) for name in _STRATEGIES] for _ in range(bench.runs)]
    figures = [middle(list(of_one), _store_cpu) for of_one in zip(*rounds, strict=True)]
    ours, *others = figures
    return figures, [
        compare(f"node's CPU, {other.name} / {ours.name}", _store_cpu(other) / _store_cpu(ours))
        for other in others
    ]


def _store_cpu(figure: Figure) -> float:
    return figure.store_cpu_s_per_million or 0.0


def _one(bench: Bench, node: Node, name: str) -> Figure:
    """One run with a table of its own."""
    with bench.target.keyspace() as settings, closing(ReadyWriter(settings)) as ours:
        ours.connected.execute(f"ALTER TABLE readings WITH memtable_flush_period_in_ms = {_FLUSH_MS}")
        if _STRATEGIES[name]:
            ours.connected.execute(f"ALTER TABLE readings WITH compaction = {_STRATEGIES[name]}")
        bench.target.rest()
        stopwatch = Stopwatch(bench.target)
        ours.write(bench.rows)
        figure = stopwatch.figure(f"compaction {name}", bench.rows)
        time.sleep(_FLUSH_MS / 1000)  # before, a node with few rows is at rest and has no file yet
        bench.target.rest()
        found = _files_of(node, settings.keyspace)
        size = sum(path.stat().st_size for path in found)
        tables = sum(path.name.endswith("-Data.db") for path in found)
        return msgspec.structs.replace(
            figure,
            store_cpu_s_per_million=stopwatch.store_cpu_s_per_million(bench.rows),
            note=f"{size / bench.rows:.1f} bytes a row on the disk, in {tables} files",
        )


def _files_of(node: Node, keyspace: str) -> list[Path]:
    """The files of the readings; of each generation there are several, its data being one."""
    return [path for path in (node.folder / "data" / keyspace).glob("readings-*/*.db") if path.is_file()]
