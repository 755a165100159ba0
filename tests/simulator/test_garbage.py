"""Malformed records get the verdict that the simulator says, and come again the same way."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parser.reference import parse_record
from parser.settings import Rules
from parser.verdicts import Accepted, Empty, Refused
from simulator.fleet import Fleet
from simulator.garbage import ALL_KINDS, Kind, Spoiler, spoil
from simulator.machine import Indices
from simulator.wire import Verdict

VERDICTS = {Accepted: Verdict.VALID, Refused: Verdict.INVALID, Empty: Verdict.EMPTY}


def judge(record: bytes) -> Verdict:
    """What the plain parser makes of a record; it must be one record."""
    assert record.count(b"#") == 1
    assert record.endswith(b"#")
    return VERDICTS[type(parse_record(record.removesuffix(b"#"), Rules()))]


@given(st.sampled_from(ALL_KINDS), st.integers(0, 2**32), st.integers(0, 50))
def test_each_kind_gets_its_verdict(kind: Kind, seed: int, steps: int) -> None:
    """As the plain parser of the server sees it, whatever the record was."""
    fleet = Fleet(1, 1.0, seed)
    for _ in range(steps):
        fleet.advance(np.array([0]))
    [record] = fleet.encode(fleet.advance(np.array([0])))
    assert judge(record) is Verdict.VALID
    rng = random.Random(seed)  # noqa: S311  # repeatable, not secret
    assert judge(spoil(record, kind, rng)) is kind.verdict


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_the_share_is_kept(share: float) -> None:
    """All kinds come up, and what is not spoiled is untouched."""
    fleet, spoiler = Fleet(5000, 1.0, 1), Spoiler(5000, 1, share)
    readings = fleet.advance(np.arange(5000))
    good = fleet.encode(readings)
    bad = list(good)
    spoiled = spoiler.spoil(bad, readings)
    assert len(spoiled) / 5000 == pytest.approx(share, rel=0.2)
    assert all(good[place] == bad[place] for place in range(5000) if place not in spoiled)
    assert all(judge(bad[place]) is kind.verdict for place, kind in spoiled.items())
    assert set(spoiled.values()) == (set(ALL_KINDS) if share else set())


def test_the_same_seed_spoils_the_same_records() -> None:
    """Whatever comes together in one step."""
    together, apart = (
        [record for which in batches for record in next_records(which)]
        for batches, next_records in (
            ([np.arange(200)], spoiling()),
            ([np.array([index]) for index in range(200)], spoiling()),
        )
    )
    assert together == apart


def spoiling() -> Callable[[Indices], list[bytes]]:
    """The next records of some of 200 devices, a third of them spoiled."""
    fleet, spoiler = Fleet(200, 1.0, 9), Spoiler(200, 9, 0.3)

    def next_records(which: Indices) -> list[bytes]:
        readings = fleet.advance(which)
        records = fleet.encode(readings)
        spoiler.spoil(records, readings)
        return records

    return next_records
