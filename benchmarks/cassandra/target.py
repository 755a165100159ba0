"""Where it is measured: a node of our own, made for the run, or a cluster that is there already.

Our own lies in a folder of the working directory and is gone afterwards. What it takes of the processors can
be read, and it can be paused; with a cluster named in `HEADRACE_CASSANDRA_CONTACT_POINTS` we can do neither.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import click
import msgspec

from benchmarks.report import Figure
from devcluster import Cluster, Node, missing
from storage.cassandra.connect import Connected
from storage.settings import CassandraSettings

_VARIABLE: Final = "HEADRACE_CASSANDRA_CONTACT_POINTS"
_QUIET: Final = 0.2
"""Of one core: below this a node has nothing left to do."""

_SETTINGS: Final = {
    "concurrent_writes": 8,
    "native_transport_max_threads": 16,
    "concurrent_compactors": 1,
    "memtable_allocation_type": "offheap_objects",
}
"""Of the node. Cassandra's own 32 and 128 threads are for machines of many cores: on two, which it shares
with Headrace, so many that are ready to run make each request, and each acknowledgement, wait for the others.
With rows of a memtable outside the heap the collector has less to do; Cassandra's own `cassandra_latest.yaml`
has that too."""

_LOOK_S: Final = 1.0
_LONGEST_REST_S: Final = 30.0


class Target:
    """One node, or a cluster that we know nothing about."""

    def __init__(self, settings: CassandraSettings, node: Node | None = None) -> None:
        self._settings = settings
        self.node = node

    @contextmanager
    def keyspace(self) -> Iterator[CassandraSettings]:
        """A keyspace that nobody has used, and that is gone afterwards with all its rows."""
        name = f"headrace_bench_{uuid4().hex[:12]}"
        try:
            yield msgspec.structs.replace(self._settings, keyspace=name)
        finally:
            with closing(Connected(self._settings)) as connected:
                connected.execute(f"DROP KEYSPACE IF EXISTS {name}")

    def rest(self) -> None:
        """Wait until the node has done what earlier runs left to it: flushing and compacting."""
        deadline = time.monotonic() + _LONGEST_REST_S
        while self.node is not None and time.monotonic() < deadline:
            before = self.node.cpu_seconds()
            time.sleep(_LOOK_S)
            if self.node.cpu_seconds() - before < _QUIET * _LOOK_S:
                return


class Stopwatch:
    """Time, and time of the processors, since it was made."""

    def __init__(self, target: Target) -> None:
        self._node = target.node
        self._store_cpu = self._node.cpu_seconds() if self._node else 0.0
        self._cpu = time.process_time()
        self._begun = time.perf_counter()

    def figure(self, name: str, rows: int, note: str = "") -> Figure:
        """What this process took for so many rows, and the node for the same."""
        elapsed = time.perf_counter() - self._begun
        cpu = time.process_time() - self._cpu
        return Figure(
            name=name,
            rate=rows / elapsed,
            unit="rows/s",
            cpu_s_per_million=1e6 * cpu / rows,
            store_cpu_s_per_million=self.store_cpu_s_per_million(rows),
            note=note,
        )

    def store_cpu_s_per_million(self, rows: int) -> float | None:
        """What the node took, as far as can be seen."""
        if self._node is None:
            return None
        return 1e6 * (self._node.cpu_seconds() - self._store_cpu) / rows


@contextmanager
def open_target() -> Iterator[Target]:
    """The cluster that the environment names, or a node of our own for as long as the context lasts."""
    given = os.environ.get(_VARIABLE, "")
    if given:
        yield Target(_settings([point.strip() for point in given.split(",")]))
        return
    if missing():
        raise click.ClickException(missing())
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=Path.cwd()) as folder,
        Cluster(Path(folder), port=0, settings=_SETTINGS) as cluster,
    ):
        own = CassandraSettings(contact_points=tuple(cluster.contact_points), port=cluster.port)
        yield Target(own, cluster.nodes[0])


def _settings(points: list[str]) -> CassandraSettings:
    """Of hosts that may carry the port, the same for all."""
    pairs = [point.partition(":") for point in points]
    port = pairs[0][2]
    hosts = tuple(host for host, _, _ in pairs)
    return CassandraSettings(contact_points=hosts, port=int(port) if port else CassandraSettings().port)
