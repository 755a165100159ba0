"""How many requests may be under way: additive up, multiplicative down, within its bounds whatever comes."""

from hypothesis import given
from hypothesis import strategies as st

from storage.cassandra.window import FIRST, Window

answers = st.tuples(st.booleans(), st.floats(0.0005, 20.0), st.floats(0.0, 1.0))


def test_it_opens_by_one_for_each_window_of_quick_answers() -> None:
    """As many confirmed requests as may be under way raise the limit by about one."""
    window = Window(64)
    begun = window.limit
    for _ in range(begun + 1):
        window.confirmed(0.0, 0.01)
    assert window.limit == begun + 1 == int(FIRST) + 1


def test_an_error_halves_it_once_for_all_that_were_under_way() -> None:
    """Eight requests that time out together are one trouble."""
    window = Window(64)
    for second in range(600):
        window.confirmed(float(second), 0.01)
    before = window.limit
    for _ in range(8):
        window.failed(1_000.0, 2.0)
    assert window.limit == before // 2
    window.failed(1_002.0, 2.0)
    assert window.limit == before // 4


def test_answers_far_slower_than_the_quickest_lower_it_a_little() -> None:
    """Queues in the cluster show as latency before they show as errors."""
    window = Window(64)
    for second in range(300):
        window.confirmed(float(second), 0.02)
    before = window.limit
    window.confirmed(400.0, 1.0)
    assert before > window.limit >= int(0.9 * before) - 1


def test_a_short_queue_is_let_be() -> None:
    """Answers below a tenth of a second are never slow, however quick the quickest were."""
    window = Window(64)
    window.confirmed(0.0, 0.001)
    for second in range(1, 4_000):
        window.confirmed(float(second), 0.099 if second % 2 else 0.001)
    assert window.limit == 64
    window.confirmed(5_000.0, 0.101)
    assert window.limit < 64


def test_a_cluster_that_became_slower_for_good_is_not_throttled_for_ever() -> None:
    """What counted as quick is forgotten."""
    window = Window(64)
    for second in range(100):
        window.confirmed(float(second), 0.02)
    for second in range(100, 4_000):
        window.confirmed(float(second), 0.5)
    assert window.limit == 64


@given(most=st.integers(1, 200), life=st.lists(answers, max_size=300))
def test_it_stays_within_its_bounds(most: int, life: list[tuple[bool, float, float]]) -> None:
    """One request at least, so that it ever hears of better times; never more than configured."""
    window, now = Window(most), 0.0
    for good, seconds, later in life:
        now += later
        (window.confirmed if good else window.failed)(now, seconds)
        assert 1 <= window.limit <= most
