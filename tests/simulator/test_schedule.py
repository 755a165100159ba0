"""Pacing: each device at its rate, and a stall is followed by a burst of a known size."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from simulator.schedule import Schedule

rates = st.sampled_from([0.1, 0.5, 1.0, 3.0, 7.0, 10.0, 49.0, 100.0])


def take_all(
    schedule: Schedule, now_s: float, ready: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> list[int]:
    """Ask until nothing is due."""
    taken: list[int] = []
    while (which := schedule.due(now_s, ready)).size:
        assert len(set(which.tolist())) == which.size
        taken += which.tolist()
    return taken


@given(devices=st.integers(1, 20), rate=rates, turns=st.integers(0, 50))
def test_a_duration_makes_exactly_its_records(devices: int, rate: float, turns: int) -> None:
    """After turns / rate seconds each device has had exactly so many turns, in time order."""
    schedule, ready = Schedule(devices, rate, max_behind_s=1e6), np.ones(devices, np.bool_)
    taken = take_all(schedule, math.nextafter(turns / rate, -1), ready)
    assert sorted(taken) == sorted(list(range(devices)) * turns)
    assert schedule.slipped == 0
    assert schedule.next_s(ready) == turns / rate


class Pacing(RuleBasedStateMachine):
    """Time passes, devices are ready or not; what is taken is held against what was owed."""

    DEVICES = 4
    RATE = 10.0
    BEHIND_S = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.schedule = Schedule(self.DEVICES, self.RATE, max_behind_s=self.BEHIND_S)
        self.now_s = 0.0
        self.ready = np.ones(self.DEVICES, np.bool_)
        self.taken = np.zeros(self.DEVICES, np.int64)

    @rule(passed_s=st.floats(0, 2))
    def time_passes(self, passed_s: float) -> None:
        """And all that is due is taken."""
        self.now_s += passed_s
        taken = np.bincount(take_all(self.schedule, self.now_s, self.ready), minlength=self.DEVICES)
        assert taken.max() <= max(1, self.BEHIND_S * self.RATE)
        assert not taken[~self.ready].any()
        self.taken += taken

    @rule(device=st.integers(0, DEVICES - 1), ready=st.booleans())
    def readiness_changes(self, device: int, ready: bool) -> None:  # noqa: FBT001  # hypothesis gives it by name
        """A server stops reading, or goes on."""
        self.ready[device] = ready

    @invariant()
    def nobody_is_ahead(self) -> None:
        """A device never had more turns than its time had."""
        assert (self.taken <= np.floor(self.now_s * self.RATE) + 1).all()

    @invariant()
    def what_is_let_go_is_counted(self) -> None:
        """All that was owed was taken or let go, where everybody is ready and had the time."""
        if self.ready.all() and self.schedule.next_s(self.ready) > self.now_s:
            owed = np.floor(self.now_s * self.RATE - np.arange(self.DEVICES) / self.DEVICES + 1)
            assert abs(self.taken.sum() + self.schedule.slipped - owed.sum()) <= self.DEVICES

    @invariant()
    def the_next_deadline_is_not_far(self) -> None:
        """Who is ready has something to do within one turn."""
        next_s = self.schedule.next_s(self.ready)
        assert next_s <= self.now_s + 1 / self.RATE + 1e-9 if self.ready.any() else math.isinf(next_s)


TestPacing = Pacing.TestCase
