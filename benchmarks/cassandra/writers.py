"""The parts `writers` and `shape`: rows that are in memory already, into one table, by each writer in turn.

The others get two million rows at most, as a row at a time takes minutes for these. All of a round run before
the next round begins: a noisy moment hits them alike. A first, shorter round doesn't count, as the node still
grows faster in it.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Final, NamedTuple

import msgspec

from benchmarks.cassandra.bench import Bench, Found
from benchmarks.cassandra.peers import (
    BATCH_ROWS,
    Acsylla,
    Values,
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
_SHARE_OF_FIRST: Final = 8
"""The round that doesn't count has this part of the rows."""

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
        figures = _measure(bench, ours, partial(_all_cases, ours, acsylla))
    if acsylla is None:
        figures[0] = msgspec.structs.replace(figures[0], note="acsylla is not installed, so not measured")
    return figures, [_against(figures[0], figure) for figure in figures[1:]]


def shape(bench: Bench) -> Found:
    """Our writer with the row as one frozen value, with that and an end of its life, and as five columns."""
    with _tables(bench) as (_, ours):
        figures = _measure(bench, ours, partial(_shapes, ours))
    return figures, [_against(figures[0], figure) for figure in figures[1:]]


def _shapes(ours: ReadyWriter, rows: int) -> list[Case]:
    return [
        _ours(ours, rows),
        Case("ours, five columns", rows, partial(ours.write_five_columns, rows)),
        Case("ours, frozen, rows that expire", rows, partial(ours.write_mortal, rows)),
    ]


def _all_cases(ours: ReadyWriter, acsylla: Acsylla | None, rows: int) -> list[Case]:
    cases = [_ours(ours, rows)]
    for shape in (FIVE_COLUMNS, FROZEN):
        singles = python_rows(shape, _others(rows))
        batches = in_batches(singles)
        cases += _driver_cases(ours, shape, singles, batches)
        if acsylla is not None:
            write = partial(acsylla.write, shape, in_seconds(batches))
            cases.append(Case(f"acsylla, {shape.label}", len(singles), write))
    return cases


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


def _driver_cases(
    ours: ReadyWriter, shape: Shape, singles: Sequence[Values], batches: Sequence[Sequence[Values]]
) -> list[Case]:
    one_by_one = partial(row_by_row, ours.connected, shape, singles)
    together = partial(driver_batches, ours.connected, shape, batches)
    return [
        Case(f"row by row, {shape.label}", len(singles), one_by_one),
        Case(f"BatchStatement, {shape.label}", len(singles), together),
    ]


def _others(rows: int) -> int:
    """How many rows the others get: such that their batches are full, where that is possible."""
    most = min(rows, _MOST_OF_OTHERS)
    return most - most % _WHOLE_BATCHES or most


def _measure(bench: Bench, ours: ReadyWriter, cases_of: Callable[[int], list[Case]]) -> list[Figure]:
    """Medians of the cases that are made for so many rows."""
    for case in cases_of(max(DEVICES, bench.rows // _SHARE_OF_FIRST)):
        _measure_one(bench, ours, case)
    cases = cases_of(bench.rows)
    gc.collect()
    gc.freeze()  # the rows of the others, millions of them, are not looked through while one is measured
    rounds = [[_measure_one(bench, ours, case) for case in cases] for _ in range(bench.runs)]
    gc.unfreeze()
    return [middle(list(of_case)) for of_case in zip(*rounds, strict=True)]


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
