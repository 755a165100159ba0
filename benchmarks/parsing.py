"""`bench parse`: bytes to columns, against plain Python with the same checks, and with bad records."""

import random
import time
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.plain import parse_plainly
from benchmarks.report import Comparison, Figure, compare, middle
from parser.columns import parse_columns
from parser.settings import Rules
from simulator.blast import prepare

_RECORDS = 35_000
"""About the 1 MiB that a block has at full rate."""

_BAD = {
    "too few fields": b"E1,2,3#",
    "too many fields": b"E1,1,2,3,4,5,6#",
    "a word": b"E1,x,2,3,4,5#",
    "not a number": b"E1,1,nan,3,4,5#",
    "too large": b"E1,1,1e400,3,4,5#",
    "invalid UTF-8": b"E\xff1,1,2,3,4,5#",
    "line feed inside": b"E1,1\n,2,3,4,5#",
    "empty": b"#",
    "over-long": b"a" * 600 + b"#",
    "two signs": b"E1,--1,2,3,4,5#",
    "two points": b"E1,1.2.3,2,3,4,5#",
}


class Case(NamedTuple):
    """A payload and who reads it."""

    name: str
    payload: bytes
    parse: Callable[[bytes], object]


def run(runs: int, seconds: float) -> tuple[list[Figure], list[Comparison]]:
    """Measure on one core, in this process; all cases in turn, so that a noisy moment hits them alike."""
    rules = Rules()
    good = [record + b"#" for record in prepare(100, _RECORDS).payload.split(b"#")[:-1]]
    chance = random.Random(1)  # noqa: S311  # a repeatable choice

    def vectorised(payload: bytes) -> object:
        return parse_columns(payload, rules, {})

    def mixed(share: float) -> bytes:
        kinds = list(_BAD.values())
        return b"".join(chance.choice(kinds) if chance.random() < share else record for record in good)

    cases = [
        Case("vectorised, clean", b"".join(good), vectorised),
        Case("plain Python, clean", b"".join(good), parse_plainly),
        Case("vectorised, 1 % malformed of all kinds", mixed(0.01), vectorised),
        Case("vectorised, all malformed", mixed(1.0), vectorised),
        Case("vectorised, half a block", b"".join(good[: _RECORDS // 2]), vectorised),
        *(Case(f"1 % {kind}", _sprinkle(good, bad), vectorised) for kind, bad in _BAD.items()),
    ]
    rounds = [[_measure(case, seconds) for case in cases] for _ in range(runs)]
    figures = [middle(list(of_case)) for of_case in zip(*rounds, strict=True)]
    clean, plain, one, all_bad, half, *every = figures
    slowest = min(figure.rate for figure in every)
    return figures, [
        compare("clean, million records/s", clean.rate / 1e6, at_least=3),
        compare("clean / plain Python", clean.rate / plain.rate, at_least=5),
        compare("1 % malformed of all kinds / clean", one.rate / clean.rate, at_least=0.3),
        compare("slowest single kind at 1 % / clean", slowest / clean.rate, at_least=0.3),
        compare("all malformed, rejects/s", all_bad.rate, at_least=200_000),
        compare("whole block / half a block", clean.rate / half.rate),
    ]


def _sprinkle(good: list[bytes], bad: bytes) -> bytes:
    """One in a hundred bad, among them the first, the middle and the last."""
    step = 100
    places = set(range(0, len(good), step)) | {len(good) - 1}
    return b"".join(bad if place in places else record for place, record in enumerate(good))


def _measure(case: Case, seconds: float) -> Figure:
    records = case.payload.count(b"#")
    case.parse(case.payload)
    begun, cpu, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begun < seconds:
        case.parse(case.payload)
        done += records
    elapsed, used = time.perf_counter() - begun, time.process_time() - cpu
    return Figure(name=case.name, rate=done / elapsed, cpu_s_per_million=1e6 * used / done)
