"""Guessing is slow, honest users are not locked out for long, and memory is bounded."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from orders.accounts.throttle import Throttle

LIMIT = 3
LOCKOUT_MS = 1_000
HOME = "10.0.0.1"


def wrong(throttle: Throttle, now: int, name: str = "Anna", address: str = HOME) -> int:
    """A wrong password, if it is looked at; how long to wait, in milliseconds."""
    return throttle.attempt(name, address, now)


def test_so_many_wrong_ones_lock_a_name_and_one_more_begins_it_anew() -> None:
    """For exactly the lockout's time, wherever they come from."""
    throttle = Throttle(LIMIT, LOCKOUT_MS)
    assert [wrong(throttle, now, address=f"10.0.0.{now}") for now in range(3)] == [0, 0, 0]
    assert wrong(throttle, 2) == 1_000
    assert wrong(throttle, 1_001) == 1
    assert wrong(throttle, 1_002) == 0
    assert wrong(throttle, 1_003) == 999
    assert wrong(throttle, 1_003, name="Mia") == 0


def test_a_right_one_clears_the_name() -> None:
    """Whatever was held against it."""
    throttle = Throttle(LIMIT, LOCKOUT_MS)
    for _ in range(5):
        assert [wrong(throttle, 0), wrong(throttle, 0), throttle.attempt("Anna", "10.0.0.9", 0)] == [0, 0, 0]
        throttle.succeeded("Anna", "10.0.0.9")


def test_an_address_may_fail_ten_times_as_often() -> None:
    """Whoever it tries; others are not held up. A right one does not clear it."""
    throttle = Throttle(LIMIT, LOCKOUT_MS)
    for number in range(29):
        assert wrong(throttle, 0, name=f"user{number}") == 0
    assert wrong(throttle, 0, name="Anna") == 0
    throttle.succeeded("Anna", HOME)
    assert wrong(throttle, 0, name="Mia") == 0
    assert wrong(throttle, 0, name="Zoe") == 1_000
    assert wrong(throttle, 0, name="Zoe", address="10.0.0.2") == 0


def test_names_that_nobody_can_have_count_for_the_address_alone() -> None:
    """They share no count that could lock anybody else."""
    throttle = Throttle(LIMIT, LOCKOUT_MS)
    assert [wrong(throttle, 0, name="") for _ in range(30)] == [0] * 30
    assert wrong(throttle, 0, name="") == 1_000
    assert wrong(throttle, 0, name="", address="10.0.0.2") == 0


def test_an_address_is_what_its_owner_can_not_change_at_will() -> None:
    """The network of IPv6, the same address in another form; a text that is none is one as well."""
    throttle = Throttle(1, LOCKOUT_MS)
    for number in range(10):
        assert wrong(throttle, 0, f"a{number}", f"2001:db8:1:2::{number}") == 0
        assert wrong(throttle, 0, f"b{number}", "::ffff:10.0.0.1" if number % 2 else HOME) == 0
        assert wrong(throttle, 0, f"c{number}", f"{'x' * 64}{number}") == 0
        assert wrong(throttle, 0, f"d{number}", f"fe80::1:{number}%eth{number}") == 0
    assert wrong(throttle, 0, "Anna", "2001:db8:1:2:ffff::") == 1_000
    assert wrong(throttle, 0, "Anna", HOME) == 1_000
    assert wrong(throttle, 0, "Anna", "x" * 70) == 1_000
    assert wrong(throttle, 0, "Anna", "fe80::2") == 1_000
    assert wrong(throttle, 0, "Anna", "2001:db8:1:3::") == 0


def test_what_was_never_looked_at_does_not_count() -> None:
    """Such as an attempt for which there was no place."""
    throttle = Throttle(1, LOCKOUT_MS)
    for _ in range(20):
        assert wrong(throttle, 0) == 0
        throttle.withdrawn("Anna", HOME)


def test_a_clock_that_is_set_back_locks_nobody_for_longer() -> None:
    """Time is counted from where the clock is then."""
    throttle = Throttle(1, LOCKOUT_MS)
    assert wrong(throttle, 1_000_000_000) == 0
    assert wrong(throttle, 5) == 1_000
    assert wrong(throttle, 1_005) == 0


steps = st.lists(st.tuples(st.integers(0, 1_500), st.sampled_from(["Anna", "Mia"])), max_size=200)


@given(steps)
@settings(max_examples=200)
def test_over_any_time_nobody_guesses_more_than_the_limit_and_one_for_each_lockout(
    tries: list[tuple[int, str]],
) -> None:
    """However the attempts are spread, and never is anybody told to wait longer than the lockout."""
    throttle = Throttle(LIMIT, LOCKOUT_MS)
    now = 0
    looked_at: dict[str, list[int]] = {"Anna": [], "Mia": []}
    for number, (later_ms, name) in enumerate(tries):
        now += later_ms
        wait_ms = throttle.attempt(name, f"10.0.{number // 250}.{number % 250}", now)
        assert 0 <= wait_ms <= LOCKOUT_MS
        if not wait_ms:
            looked_at[name].append(now)
    for times in looked_at.values():
        for first in range(len(times)):
            for last in range(first, len(times)):
                assert last - first + 1 <= LIMIT + 1 + (times[last] - times[first]) // LOCKOUT_MS


class Remembering(RuleBasedStateMachine):
    """Any calls in any order, with few places."""

    def __init__(self) -> None:
        super().__init__()
        self.throttle = Throttle(LIMIT, LOCKOUT_MS, most=5)
        self.now = 10_000

    @rule(
        name=st.text("abc", max_size=2),
        address=st.text("0123456789.:", max_size=9),
        later=st.integers(-9, 999),
    )
    def attempt(self, name: str, address: str, later: int) -> None:
        """A clock may be set back too."""
        self.now += later
        assert 0 <= self.throttle.attempt(name, address, self.now) <= LOCKOUT_MS

    @rule(name=st.text("abc", max_size=2), address=st.text("0123456789.:", max_size=9))
    def succeed(self, name: str, address: str) -> None:
        """Also what was never tried."""
        self.throttle.succeeded(name, address)

    @rule(name=st.text("abc", max_size=2), address=st.text("0123456789.:", max_size=9))
    def withdraw(self, name: str, address: str) -> None:
        """Also what was never tried."""
        self.throttle.withdrawn(name, address)

    @rule(name=st.text("abc", min_size=1, max_size=2))
    def a_right_one_always_leaves_room(self, name: str) -> None:
        """After it a name has all its tries again."""
        self.throttle.succeeded(name, "10.9.9.9")
        assert self.throttle._names.wait_ms(name, self.now) == 0

    @invariant()
    def memory_is_bounded(self) -> None:
        """So many names and so many addresses, at most."""
        assert len(self.throttle) <= 10


TestRemembering = Remembering.TestCase
