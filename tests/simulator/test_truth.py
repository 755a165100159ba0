"""The truth can be computed again by someone who has nothing but the rows."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from parser.reference import parse_record
from parser.settings import Rules
from parser.verdicts import Accepted
from simulator.fleet import Fleet
from simulator.source import Source
from simulator.truth import MAX_GAP_S, DeviceTruth, Totals, Truth
from tests.support.energy import Row, recompute


@pytest.mark.parametrize("malformed", [0.0, 0.2])
@pytest.mark.parametrize("interval_s", [0.1, 2.0])
def test_energy_and_times_come_out_of_the_rows(malformed: float, interval_s: float) -> None:
    """Ten minutes, at times that are late now and then; malformed records are no rows."""
    devices = 12
    chance = np.random.default_rng(1)
    source = Source(Fleet(devices, interval_s, 5), 5, malformed=malformed)
    rows: dict[str, list[Row]] = defaultdict(list)
    for step in range(int(600 / interval_s)):
        at_s = (step + chance.random() / 2) * interval_s
        for record in source.make(np.arange(devices), at_s):
            verdict = parse_record(record.data.removesuffix(b"#"), Rules())
            if isinstance(verdict, Accepted):
                rows[verdict.device_id].append((at_s, verdict.values))
    for device, truth in source.tally.devices().items():
        kwh, seconds = recompute(rows[device])
        assert truth.valid == len(rows[device])
        assert truth.sent == truth.valid + truth.invalid + truth.empty == int(600 / interval_s)
        assert truth.kwh == pytest.approx(kwh, rel=0.002)
        assert truth.seconds == pytest.approx(seconds, abs=1e-6)
        assert sum(truth.seconds.values()) > 570


def test_a_long_silence_counts_for_nothing() -> None:
    """Nobody knows what a machine did in it; a gap just short of that counts."""
    source = Source(Fleet(1, 1.0, 1), 1)
    for at_s in (0.0, 1.0, 1.0 + MAX_GAP_S, 10.5 + MAX_GAP_S):
        source.make(np.array([0]), at_s)
    assert sum(source.tally.devices()["E0001"].seconds.values()) == pytest.approx(1.0 + 9.5)


def test_a_record_that_never_left_is_no_record() -> None:
    """It is taken out of the count with what was wrong with it."""
    source = Source(Fleet(1, 1.0, 1), 1, malformed=1.0)
    [record] = source.make(np.array([0]), 0.0)
    assert source.tally.sent == 1
    source.tally.take_back(record.device, record.kind)
    assert source.tally.sent == 0
    assert source.tally.totals([], 0).kinds == {}


def test_a_file_says_what_was_written_to_it(tmp_path: Path) -> None:
    """And nothing is left beside it."""
    device = DeviceTruth(sent=1, valid=1, invalid=0, empty=0, kwh=0.5, seconds={"off": 1.0})
    totals = Totals(
        sent=1, valid=1, invalid=0, empty=0, kinds={}, unterminated=0, again=0,
        acknowledged=0, slipped=0, connections=0, lost=0, kwh=0.5,
    )  # fmt: skip
    truth = Truth(
        seed=1, scenario="normal", started_at="", elapsed_s=1.0, totals=totals,
        devices={"E0001": device}, links=[],
    )  # fmt: skip
    truth.write(tmp_path / "truth.json")
    assert Truth.read(tmp_path / "truth.json") == truth
    assert [path.name for path in tmp_path.iterdir()] == ["truth.json"]
