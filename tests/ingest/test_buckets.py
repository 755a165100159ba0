"""Token buckets: what may be taken in a time, and what is kept of those who leave."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.buckets import Bucket, Budget, Left

READ = 65_536


@given(
    rate=st.floats(0.1, 1e6),
    steps=st.lists(st.tuples(st.floats(0, 100), st.integers(1, READ)), max_size=50),
)
def test_a_bucket_lets_in_what_its_rate_allows(rate: float, steps: list[tuple[float, int]]) -> None:
    """At any time no more than a second's worth, what came since, and one read, if debts are waited for."""
    bucket, now, let_in, debt_until = Bucket(rate, 0.0), 0.0, 0, 0.0
    for rest, size in steps:
        now = max(now + rest, debt_until)
        let_in += size
        debt_until = now + bucket.spend(size, now)
        assert let_in <= rate * (1 + now) * (1 + 1e-9) + READ


def test_who_comes_back_finds_what_was_left() -> None:
    """The last one first; nobody else gets it, no debt is kept, and nothing that is as good as new."""
    left = Left()
    owing, half, whole = (Budget(Bucket(10.0, 0.0), Bucket(100.0, 0.0)) for _ in range(3))
    owing.records.spend(3000, 0.0)
    half.bytes.spend(50, 0.0)
    for budget in (owing, half, whole):
        left.put("E0001", budget, 0.0)
    assert left.take("E0002") is None
    assert left.take("E0001") is half
    left.put("E0001", half, 0.0)
    left.sweep(0.6)
    assert left.take("E0001") is owing, "the other one was full again"
    assert owing.records.level(0.6) == 6.0, "it began with nothing"
    assert left.take("E0001") is None
    left.put("E0001", owing, 0.6)
    left.sweep(1.1)
    assert left.take("E0001") is None, "of a second's worth nothing is kept after a second"
    left.put("E0001", half, 0.0)
    left.clear()
    assert left.take("E0001") is None


@given(
    steps=st.lists(st.tuples(st.floats(0, 2), st.booleans(), st.integers(1, 200)), max_size=60),
    places=st.integers(1, 3),
)
def test_coming_back_brings_no_more_than_a_debt(steps: list[tuple[float, bool, int]], places: int) -> None:
    """As much as so many connections that stay, and what each that left was owing."""
    rate, now, taken = 100.0, 0.0, 0
    forgiven = 0.0
    left = Left()
    here: list[Budget] = []
    for rest, leaves, amount in steps:
        now += rest
        left.sweep(now)
        if leaves and here:
            leaving = here.pop(0)
            forgiven -= min(0.0, leaving.records.level(now))
            left.put("E0001", leaving, now)
        elif len(here) < places:
            here.append(left.take("E0001") or Budget(Bucket(rate, now), Bucket(rate, now)))
        for budget in here:
            if budget.records.level(now) > 0:
                budget.records.spend(amount, now)
                taken += amount
        assert taken <= places * (rate * (1 + now) + 200) + forgiven + 1e-6
