"""The part `backlog`: the node stands still while records come, and goes on with all of them waiting.

They are sent at a steady rate, so that the journal holds them in small blocks, as it would. From the moment
the node goes on, new records come at 10 000 a second and are acknowledged; they stand behind the others in
the journal, so the backlog is drained when as many rows were stored as it had records. The ceiling that it is
held against takes turns with it and has as many rows: a node slows down once it writes its memory to files.
What a node needs for a row differs by a tenth from minute to minute, so each backlog is held against the
floods just before and after it, and more of both are measured than runs of the other parts.
"""

import time
from typing import Final, NamedTuple

import click
import msgspec

from benchmarks.cassandra.bench import Bench, Found
from benchmarks.cassandra.ready import DEVICES
from benchmarks.cassandra.sockets import PREPARED, TURNS, measure_whole
from benchmarks.cassandra.target import Stopwatch
from benchmarks.child import Outcome
from benchmarks.report import Figure, compare, compare_in_turns, middle, percentiles
from benchmarks.running import child
from devcluster import Node
from simulator.blast import BlastResult, prepare, send

_COMING: Final = 100_000
_NEW: Final = 10_000
_LONGER: Final = 1.5
_BACK_S: Final = 10.0
"""New records come for so much longer than draining should take, and so long for the sink to come back."""


class Drained(NamedTuple):
    """How the backlog went."""

    rate: float
    first_s: float
    """From the node's going on to the first rows."""

    seconds: float
    """To the last."""


def backlog(bench: Bench) -> Found:
    """How fast a backlog drains, and how well new records are taken meanwhile."""
    node = bench.target.node
    if node is None:
        click.echo("backlog: not measured, as the cluster is not ours to pause", err=True)
        return [], []
    measure_whole(bench, DEVICES, "")
    floods, drains, acks = [_flood(bench)], [], []
    for _ in range(TURNS * bench.runs):
        drain, ack = _backlog(bench, node, floods[-1].rate)
        drains.append(drain)
        acks.append(ack)
        floods.append(_flood(bench))
    found = [middle(floods), middle(drains), middle(acks)]
    return found, [
        compare_in_turns("draining / sockets to rows, as many", drains, floods, at_least=0.9),
        compare("acknowledgement of new records p99 meanwhile, ms", found[-1].rate, at_most=50),
    ]


def _flood(bench: Bench) -> Figure:
    return measure_whole(bench, DEVICES, "sockets to rows, as many", rows=bench.backlog)


def _backlog(bench: Bench, node: Node, most: float) -> tuple[Figure, Figure]:
    with bench.target.keyspace() as settings, child("cassandra", cassandra=settings) as measured:
        bench.target.rest()
        node.pause()
        try:
            waiting = _send(measured.ports[1], bench.backlog, _COMING).sent
        finally:
            node.resume()
        resumed, stopwatch = time.perf_counter(), Stopwatch(bench.target)
        new = _send(measured.ports[1], int(_NEW * (_BACK_S + _LONGER * waiting / most)), _NEW)
        outcome = measured.finish(waiting + new.sent)
        store_cpu = stopwatch.store_cpu_s_per_million(outcome.processed)
    drained = _drained(outcome, waiting, resumed)
    drain = _drain_figure(outcome, waiting, drained)
    return msgspec.structs.replace(drain, store_cpu_s_per_million=store_cpu), _ack_figure(new, drained)


def _send(port: int, records: int, rate: float) -> BlastResult:
    """At a rate, until all are acknowledged."""
    return send("127.0.0.1", port, prepare(DEVICES, PREPARED), records=records, rate=rate, ack=True)


def _drained(outcome: Outcome, waiting: int, resumed: float) -> Drained:
    """From the first rows after the pause to the last of the backlog.

    Rows are reported when a part of them is complete, so the first report only begins the time; where it is
    also the last one, time runs from the node's going on.
    """
    after = [(at, rows) for at, rows in outcome.progress if at >= resumed]
    before = max((rows for at, rows in outcome.progress if at < resumed), default=0)
    first, last = after[0], next(report for report in after if report[1] >= waiting)
    start = (resumed, before) if first == last else first
    rate = (last[1] - start[1]) / (last[0] - start[0])
    return Drained(rate, first[0] - resumed, last[0] - resumed)


def _drain_figure(outcome: Outcome, waiting: int, drained: Drained) -> Figure:
    return Figure(
        name="draining a backlog",
        rate=drained.rate,
        unit="rows/s",
        cpu_s_per_million=1e6 * outcome.cpu_s / outcome.processed,
        memory_mib=outcome.memory_mib,
        note=f"{waiting:,} records, first rows after {drained.first_s:.1f} s, last {drained.seconds:.1f} s",
    )


def _ack_figure(new: BlastResult, drained: Drained) -> Figure:
    """Of what was sent while the backlog was there: one connection's come in their order."""
    meanwhile = new.ack_latencies[: round(len(new.ack_latencies) * min(1.0, drained.seconds / new.seconds))]
    found = percentiles(meanwhile)
    return Figure(
        name="acknowledging new records, p99",
        rate=found["p99"],
        unit="ms",
        percentiles_ms=found,
        note=f"at {new.sent / new.seconds:,.0f} records/s while the backlog drains",
    )
