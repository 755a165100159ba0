"""Stamps: they only grow, follow small steps of the clock, and report the large ones."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.clock import HOUR_US, MONTH_US, ClockReading, StampClock, check_clock
from ingest.errors import ClockError
from tests.ingest.building import Desk, block, chain
from tests.ingest.test_full_disk import reached, serving

pytestmark = pytest.mark.fault

_START_US = 1_700_000_000_000_000
_TEN_YEARS_US = 10 * 365 * 24 * HOUR_US
_SECOND_US = 1_000_000


class Clocks:
    """A wall clock that anybody may set, and a monotonic one."""

    def __init__(self) -> None:
        self.wall_us = _START_US
        self.monotonic_us = 5_000_000

    def pass_by(self, us: int) -> None:
        """Time goes on, for both."""
        self.wall_us += us
        self.monotonic_us += us

    def stamps(self, last_us: int = 0) -> StampClock:
        """What makes stamps from them."""
        return StampClock(
            last_us,
            wall_ns=lambda: self.wall_us * 1000,
            monotonic_ns=lambda: self.monotonic_us * 1000,
        )


def test_a_stamp_is_the_wall_clock() -> None:
    clocks = Clocks()
    stamps = clocks.stamps()
    clocks.pass_by(20_000)
    assert stamps.stamp() == _START_US + 20_000


def test_stamps_grow_while_the_clock_stands_still() -> None:
    """By a microsecond each: every block has its own."""
    stamps = Clocks().stamps()
    assert [stamps.stamp() for _ in range(3)] == [_START_US, _START_US + 1, _START_US + 2]


@pytest.mark.parametrize("step", [-59 * 60 * _SECOND_US, -_SECOND_US, _SECOND_US, 59 * 60 * _SECOND_US])
def test_small_steps_are_followed(step: int) -> None:
    """A time server corrects the clock; after a step back stamps wait for it, still growing."""
    clocks = Clocks()
    stamps = clocks.stamps()
    before = stamps.stamp()
    clocks.wall_us += step
    assert stamps.stamp() == max(_START_US + step, before + 1)
    assert stamps.jump_us == 0
    clocks.pass_by(HOUR_US)
    assert stamps.stamp() == _START_US + step + HOUR_US


@pytest.mark.parametrize("jump", [-_TEN_YEARS_US, -HOUR_US - 1, HOUR_US + 1, _TEN_YEARS_US])
def test_a_jump_is_reported_and_not_followed(jump: int) -> None:
    """The monotonic clock carries the time on, until the wall clock is back."""
    clocks = Clocks()
    stamps = clocks.stamps()
    clocks.wall_us += jump
    for _ in range(3):
        clocks.pass_by(10 * _SECOND_US)
        stamp = stamps.stamp()
        assert stamps.jump_us == jump
    assert stamp == _START_US + 30 * _SECOND_US
    clocks.wall_us -= jump
    clocks.pass_by(10 * _SECOND_US)
    assert stamps.stamp() == _START_US + 40 * _SECOND_US
    assert stamps.jump_us == 0


@pytest.mark.parametrize("jump", [-_TEN_YEARS_US, HOUR_US + 1])
def test_a_reading_has_the_time_that_is_followed(jump: int) -> None:
    """However long ago the last stamp was."""
    clocks = Clocks()
    stamps = clocks.stamps()
    clocks.wall_us += jump
    stamps.stamp()
    clocks.pass_by(3 * HOUR_US)
    reading, now = stamps.reading(), ClockReading.now()
    assert reading.followed_us == _START_US + 3 * HOUR_US
    assert reading.boot == now.boot
    assert 0 <= now.since_boot_us - reading.since_boot_us < HOUR_US


def test_stamps_go_on_above_the_last_one_of_the_server_before() -> None:
    """Also where the clock was set back while no server ran."""
    last = _START_US + 30 * 60 * _SECOND_US
    stamps = Clocks().stamps(last)
    assert stamps.stamp() == last + 1


@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 2 * HOUR_US),
            st.one_of(
                st.integers(-2 * HOUR_US, 2 * HOUR_US), st.sampled_from([-_TEN_YEARS_US, _TEN_YEARS_US])
            ),
        ),
        max_size=30,
    )
)
def test_stamps_always_grow(steps: list[tuple[int, int]]) -> None:
    """Whatever is done to the wall clock; and no single step moves a stamp by more than an hour."""
    clocks = Clocks()
    stamps = clocks.stamps()
    last = stamps.stamp()
    for passed, step in steps:
        clocks.pass_by(passed)
        clocks.wall_us += step
        stamp = stamps.stamp()
        assert last < stamp <= last + passed + HOUR_US + 1
        last = stamp


def _reading(wall_us: int, since_boot_us: int = 0, boot: str = "a") -> ClockReading:
    return ClockReading(wall_us, since_boot_us, boot)


_THEN = _reading(_START_US, 100 * _SECOND_US)
_DAY_US = 24 * HOUR_US


@pytest.mark.parametrize(
    "now",
    [
        _reading(_START_US + _DAY_US, 100 * _SECOND_US + _DAY_US),
        _reading(_START_US + _DAY_US - HOUR_US, 100 * _SECOND_US + _DAY_US),
        _reading(_START_US + 3 * MONTH_US, 100 * _SECOND_US + 3 * MONTH_US),
        _reading(_START_US + MONTH_US, 5, boot="b"),
        _reading(_START_US - HOUR_US, 5, boot="b"),
    ],
    ids=["a day later", "a bit behind", "a long stop", "a month later, booted", "a bit behind, booted"],
)
def test_a_plausible_clock_is_accepted_at_start(now: ClockReading) -> None:
    """Within one boot the boot clock says what is plausible, across boots the last stamp."""
    check_clock(now, _THEN, _START_US)


@pytest.mark.parametrize(
    "now",
    [
        _reading(_START_US + _DAY_US, 100 * _SECOND_US + 2 * _DAY_US),
        _reading(_START_US + _TEN_YEARS_US, 101 * _SECOND_US),
        _reading(_START_US - 2 * HOUR_US, 101 * _SECOND_US),
        _reading(_START_US + MONTH_US + 1, 5, boot="b"),
        _reading(_START_US - HOUR_US - 1, 5, boot="b"),
        _reading(_START_US + _TEN_YEARS_US, 5, boot=""),
    ],
    ids=["a day lost", "ten years", "two hours back", "booted, ten years", "booted, back", "no boot id"],
)
def test_a_clock_that_jumped_while_no_server_ran_is_doubted_at_start(now: ClockReading) -> None:
    """The message says both times and how to confirm."""
    with pytest.raises(ClockError, match=r"the journal was last written at 2023-11-14.*--accept-clock"):
        check_clock(now, _THEN, _START_US)


def test_a_journal_holds_the_clock_against_what_it_knows(tmp_path: Path) -> None:
    """Its own reading of the clocks counts, of the segment that was begun last."""
    with Desk(tmp_path) as desk:
        desk.journal.check_clock()
        desk.commit(chain(3))
    with Desk(tmp_path) as desk:
        desk.journal.check_clock()
        head = desk.journal._found[-1].head
        assert abs(head.clock.wall_us - ClockReading.now().wall_us) < HOUR_US


async def test_a_clock_that_was_wrong_for_a_while_is_no_reason_to_doubt_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that is begun meanwhile notes both times; so neither is one that stays as it is by now."""
    right = time.time_ns
    async with serving(tmp_path) as server:
        monkeypatch.setattr(time, "time_ns", lambda: right() + 2 * HOUR_US * 1000)
        await reached(lambda: server._journal.tail.block, "the first block")
    with Desk(tmp_path) as desk:
        desk.journal.check_clock()
        monkeypatch.undo()
        desk.journal.check_clock()
        monkeypatch.setattr(time, "time_ns", lambda: right() + 4 * HOUR_US * 1000)
        with pytest.raises(ClockError):
            desk.journal.check_clock()


def test_the_stamp_of_the_last_block_is_kept(tmp_path: Path) -> None:
    """Where no block was damaged, it is the one that stamps go on behind."""
    with Desk(tmp_path) as desk:
        desk.commit([block(1, stamp=_START_US + _TEN_YEARS_US)])
    with Desk(tmp_path) as desk:
        stamps = Clocks().stamps(desk.journal.tail.stamp_us)
        assert stamps.stamp() == _START_US + _TEN_YEARS_US + 1
