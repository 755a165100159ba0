"""The part `sockets`: the whole way from sockets to rows, and our writer alone.

What is measured is a server in a process of its own with its sink, as `headrace serve` runs them: listener,
journal, parser, Cassandra. Sent is as fast as the sockets take it, counted are rows. So that both share the
machine with the same sender, our writer alone is measured while records are sent at the rate of the whole way
to a server that only parses. Both take turns, as a node that has just done something else is slow at first,
and grows faster for minutes; they have more rows and more turns than other parts, as they are close together.
"""

from contextlib import closing
from functools import cache
from typing import Final, NamedTuple

from benchmarks.cassandra.bench import Bench, Found
from benchmarks.cassandra.ready import DEVICES, ReadyWriter
from benchmarks.cassandra.target import Stopwatch
from benchmarks.report import Figure, compare, compare_in_turns, middle
from benchmarks.running import child, sending
from simulator.blast import prepare, send

PREPARED: Final = 100_000
"""Records in the block that a sender repeats."""

_CONNECTIONS: Final = 4
_LONGER: Final = 3
"""Rows of a turn, as a multiple of those of other parts' runs."""

TURNS: Final = 2
"""For each run of the other parts."""


class _Turns(NamedTuple):
    """What took turns; the writer alone had the first and the last."""

    through: list[Figure]
    alone: list[Figure]


def ceiling(bench: Bench) -> float:
    """What the whole way takes with a hundred devices, in rows/s."""
    return middle(_turns(bench).through).rate


@cache
def _turns(bench: Bench) -> _Turns:
    """The whole way and our writer alone, measured once for all parts; a first turn doesn't count."""
    rows = _LONGER * bench.rows
    rate = measure_whole(bench, DEVICES, "", rows=rows).rate
    turns = _Turns([], [_alone(bench, rows, rate)])
    for _ in range(TURNS * bench.runs):
        turns.through.append(measure_whole(bench, DEVICES, "sockets to rows", rows=rows))
        turns.alone.append(_alone(bench, rows, turns.through[-1].rate))
    return turns


def sockets(bench: Bench) -> Found:
    """The whole way, and our writer alone beside the same sender."""
    turns = _turns(bench)
    through, alone = map(middle, turns)
    return [through, alone], [
        compare_in_turns("sockets to rows / our writer alone", *turns, at_least=0.9),
        compare("CPU of server and sink, µs a row", through.cpu_s_per_million or 0.0, at_most=2.5),
    ]


def measure_whole(
    bench: Bench, devices: int, name: str, *, rows: int | None = None, rate: float | None = None
) -> Figure:
    """Send as fast as the sockets take it, or at a rate, and count the rows.

    Time runs from the first byte that the server sees to the last row that the sink reports.
    """
    prepared, records = prepare(devices, PREPARED), rows or bench.rows
    with bench.target.keyspace() as settings, child("cassandra", cassandra=settings) as measured:
        bench.target.rest()
        stopwatch = Stopwatch(bench.target)
        port = measured.ports[0]
        sent = send("127.0.0.1", port, prepared, connections=_CONNECTIONS, records=records, rate=rate)
        outcome = measured.finish(sent.sent)
        store_cpu = stopwatch.store_cpu_s_per_million(outcome.processed)
    return Figure(
        name=name,
        rate=outcome.processed / outcome.seconds,
        unit="rows/s",
        cpu_s_per_million=1e6 * outcome.cpu_s / outcome.processed,
        store_cpu_s_per_million=store_cpu,
        memory_mib=outcome.memory_mib,
        rows_a_request=outcome.processed / outcome.requests,
    )


def _alone(bench: Bench, rows: int, rate: float) -> Figure:
    prepared = prepare(DEVICES, PREPARED)
    with (
        bench.target.keyspace() as settings,
        closing(ReadyWriter(settings)) as ours,
        child("discard") as beside,
    ):
        ours.write(bench.rows // 10)
        bench.target.rest()
        with sending(beside.ports[0], prepared, rate):
            stopwatch = Stopwatch(bench.target)
            ours.write(rows)
            return stopwatch.figure("our writer alone", rows, "beside the same sender")
