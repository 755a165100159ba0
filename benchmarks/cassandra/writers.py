"""The parts `writers` and `shape`: rows that are in memory already, into one table, by each writer in turn.

The others get two million rows at most, a row at a time a sixty-fourth of them: that would take a quarter of
an hour. All of a round run before the next round begins: a noisy moment hits them alike. The first round
doesn't count, as the node still grows faster in it.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Final, NamedTuple

import msgspec

from benchmarks.cassandra.bench import Bench, Found
from benchmarks.cassandra.peers import (
    BATCH_ROWS,
    Acsylla,
    driver_batches,
    in_batches,
    in_seconds,
    python_rows,
    row_by_row,
)
from benchmarks.cassandra.ready import DEVICES, ReadyWriter
from benchmarks.cassandra.shapes import FIVE_COLUMNS, FROZEN, Shape
from benchmarks.cassandra.target import Stopwatch
from benchmarks.report import Comparison, Figure, compare, middle
from storage.settings import CassandraSettings

_TABLES: Final = ("readings", "latest_readings", "device_buckets", FIVE_COLUMNS.table, FROZEN.table)
_WHOLE_BATCHES: Final = BATCH_ROWS * DEVICES
_MOST_OF_OTHERS: Final = 2_000_000
_SHARE_OF_SINGLES: Final = 64
"""A row at a time gets this part of them."""

_FIVE_COLUMNS_AT_LEAST: Final = {"BatchStatement": 5.0, "acsylla": 2.0}
"""How many times as fast ours is to be as theirs, which has five columns, as one would have them."""


class Case(NamedTuple):
    """A writer, and how much it is to write."""

    name: str
    rows: int
    write: Callable[[], object]


def writers(bench: Bench) -> Found:
    """Ours, against a row at a time, the driver's batches and those of the C++ driver, in both shapes."""
    with _tables(bench) as (settings, ours), _acsylla(settings) as acsylla:
        cases = [_ours(ours, bench.rows)]
        for shape in (FIVE_COLUMNS, FROZEN):
            cases += _driver_cases(ours, shape, bench.rows)
            if acsylla is not None:
                cases.append(_acsylla_case(acsylla, shape, bench.rows))
        figures = _measure(bench, ours, cases)
    if acsylla is None:
        figures[0] = msgspec.structs.replace(figures[0], note="acsylla is not installed, so not measured")
    return figures, [_against(figures[0], figure) for figure in figures[1:]]


def shape(bench: Bench) -> Found:
    """Our writer with the row as one frozen value, and as five columns."""
    with _tables(bench) as (_, ours):
        five = Case("ours, five columns", bench.rows, partial(ours.write_five_columns, bench.rows))
        figures = _measure(bench, ours, [_ours(ours, bench.rows), five])
    return figures, [_against(*figures)]


@contextmanager
def _tables(bench: Bench) -> Iterator[tuple[CassandraSettings, ReadyWriter]]:
    with bench.target.keyspace() as settings, closing(ReadyWriter(settings)) as ours:
        for one in (FIVE_COLUMNS, FROZEN):
            ours.connected.execute(one.create)
        yield settings, ours


@contextmanager
def _acsylla(settings: CassandraSettings) -> Iterator[Acsylla | None]:
    """The C++ driver, where it is installed."""
    try:
        acsylla = Acsylla(settings)
    except ImportError:
        yield None
        return
    with closing(acsylla):
        yield acsylla


def _ours(ours: ReadyWriter, rows: int) -> Case:
    return Case("ours, frozen", rows, partial(ours.write, rows))


def _driver_cases(ours: ReadyWriter, shape: Shape, rows: int) -> list[Case]:
    singles = python_rows(shape, _others(rows) // _SHARE_OF_SINGLES or DEVICES)
    batches = in_batches(python_rows(shape, _others(rows)))
    connected = ours.connected
    return [
        Case(f"row by row, {shape.label}", len(singles), partial(row_by_row, connected, shape, singles)),
        Case(
            f"BatchStatement, {shape.label}",
            sum(map(len, batches)),
            partial(driver_batches, connected, shape, batches),
        ),
    ]


def _acsylla_case(acsylla: Acsylla, shape: Shape, rows: int) -> Case:
    batches = in_seconds(in_batches(python_rows(shape, _others(rows))))
    return Case(f"acsylla, {shape.label}", sum(map(len, batches)), partial(acsylla.write, shape, batches))


def _others(rows: int) -> int:
    """How many rows the others get: such that their batches are full, where that is possible."""
    most = min(rows, _MOST_OF_OTHERS)
    return most - most % _WHOLE_BATCHES or most


def _measure(bench: Bench, ours: ReadyWriter, cases: list[Case]) -> list[Figure]:
    gc.collect()
    gc.freeze()  # the rows of the others, a million of them, are not looked through while one is measured
    rounds = [[_measure_one(bench, ours, case) for case in cases] for _ in range(1 + bench.runs)]
    gc.unfreeze()
    return [middle(list(of_case)) for of_case in zip(*rounds[1:], strict=True)]


def _measure_one(bench: Bench, ours: ReadyWriter, case: Case) -> Figure:
    """Into empty tables, on a node that has nothing else to do."""
    for table in _TABLES:
        ours.connected.execute(f"TRUNCATE {table}")
    bench.target.rest()
    ours.requests()
    stopwatch = Stopwatch(bench.target)
    case.write()
    found = stopwatch.figure(case.name, case.rows, f"{case.rows:,} rows")
    requests = ours.requests()
    return msgspec.structs.replace(found, rows_a_request=case.rows / requests if requests else None)


def _against(ours: Figure, other: Figure) -> Comparison:
    writer, _, label = other.name.partition(", ")
    least = _FIVE_COLUMNS_AT_LEAST.get(writer) if label == FIVE_COLUMNS.label else None
    return compare(f"{ours.name} / {other.name}", ours.rate / other.rate, at_least=least)
