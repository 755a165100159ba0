"""One view of the metrics of all workers.

Each series of a worker is shown with the label `worker`. So a gauge is that of a process and means what it
says, and a sum over workers is Prometheus' work. A worker counts from 0 when it was started again; what it
had counted before is added here, so that a counter never goes back while the parent lives. What a killed
worker counted after its last report, a second at most, is missing in the metrics; ledger and connections
have it.

Tried and left: the library's own way (PROMETHEUS_MULTIPROC_DIR). Its counters lie in files that outlive a
process, but then each of them is a write to shared memory, its histograms and gauges lose the process they
are of, and the variable has to be set before anything is imported, for the server without workers as well.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_COUNTING: Final = frozenset({"counter", "histogram"})
_CREATED: Final = "_created"

Key = tuple[str, tuple[tuple[str, str], ...]]
"""Name and labels of a series."""


class Figure(msgspec.Struct, frozen=True, array_like=True):
    """One series at one moment."""

    name: str
    labels: dict[str, str]
    value: float

    @property
    def key(self) -> Key:
        """Which series it is."""
        return self.name, tuple(sorted(self.labels.items()))


class Family(msgspec.Struct, frozen=True, array_like=True):
    """All series of one metric."""

    name: str
    documentation: str
    kind: str
    figures: list[Figure]


def families(registry: CollectorRegistry) -> list[Family]:
    """What a registry says at the moment."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [Figure(sample.name, sample.labels, sample.value) for sample in metric.samples],
        )
        for metric in registry.collect()
    ]


class WorkerMetrics:
    """What the parent sees of its workers; the instruments of one server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.up = Gauge(
            "headrace_worker_up", "1 while a worker serves and answers", ["worker"], registry=registry
        )
        self.restarts = Counter(
            "headrace_worker_restarts", "Times that a worker ended", ["worker"], registry=registry
        )
        self.tasks_failed = Counter(
            "headrace_parent_tasks_failed",
            "Tasks that watch over workers and failed",
            ["task"],
            registry=registry,
        )


class WorkerFigures(Collector):
    """The metrics of all workers, as far as they have reported them."""

    def __init__(self) -> None:
        self._shown: dict[int, list[Family]] = {}
        self._before: dict[int, dict[Key, float]] = {}

    def reported(self, worker: int, found: Iterable[Family]) -> None:
        """A worker's figures at the moment."""
        before = self._before.get(worker, {})
        self._shown[worker] = [_added(family, before) for family in found]

    def silent(self, worker: int) -> None:
        """It doesn't answer: what it counted stays, what it measured of itself no longer holds."""
        self._shown[worker] = [family for family in self._shown.get(worker, []) if family.kind in _COUNTING]

    def ended(self, worker: int) -> None:
        """Its process is gone: likewise, and the next one counts on from there."""
        self.silent(worker)
        self._before[worker] = {
            figure.key: figure.value for family in self._shown[worker] for figure in family.figures
        }

    def collect(self) -> Iterator[Metric]:
        """What is shown, one metric for all workers."""
        metrics: dict[str, Metric] = {}
        for worker, shown in self._shown.items():
            for family in shown:
                metric = metrics.setdefault(
                    family.name, Metric(family.name, family.documentation, family.kind)
                )
                for figure in family.figures:
                    metric.add_sample(figure.name, {"worker": str(worker), **figure.labels}, figure.value)
        yield from metrics.values()


def _added(family: Family, before: dict[Key, float]) -> Family:
    """Counted from where the processes before it had come to; since when is that of the first one."""
    if family.kind not in _COUNTING:
        return family
    figures = [
        Figure(
            figure.name,
            figure.labels,
            before.get(figure.key, figure.value)
            if figure.name.endswith(_CREATED)
            else figure.value + before.get(figure.key, 0.0),
        )
        for figure in family.figures
    ]
    return Family(family.name, family.documentation, family.kind, figures)
