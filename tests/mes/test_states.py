"""The table of states, and that it is the whole truth."""

import itertools

import pytest

from mes.amp.errors import NoSuchOrderError, TransitionError
from mes.amp.states import TRANSITIONS, State
from mes.amp.store import AmpStore
from tests.mes.amp import ROW

WAYS = {
    State.QUEUED: [],
    State.IN_PRODUCTION: [State.IN_PRODUCTION],
    State.DONE: [State.IN_PRODUCTION, State.DONE],
    State.CANCELLED: [State.CANCELLED],
}
"""How an order that was placed gets into each state."""


def test_the_table_says_what_each_state_may_become() -> None:
    """All of them; cancelling is for what is received or queued."""
    assert set(TRANSITIONS) == set(State)
    cancellable = {state for state, after in TRANSITIONS.items() if State.CANCELLED in after}
    assert cancellable == {State.RECEIVED, State.QUEUED}
    assert not TRANSITIONS[State.DONE] | TRANSITIONS[State.CANCELLED]
    assert not any(state in after for state, after in TRANSITIONS.items())


@pytest.mark.parametrize(("before", "after"), list(itertools.product(WAYS, State)))
async def test_an_order_does_what_the_table_allows_and_nothing_else(
    store: AmpStore, before: State, after: State
) -> None:
    """A refused step changes nothing."""
    order = (await store.place("key", b"", ROW)).order
    for step, state in enumerate(WAYS[before], 1):
        order = await store.move(1, state, ROW.received_at + step)
    assert order.state is before
    if after in TRANSITIONS[before]:
        moved = await store.move(1, after, 7)
        assert (moved.state, moved.changed_at) == (after, 7)
    else:
        with pytest.raises(TransitionError, match=f"an order that is {before} can't become {after}"):
            await store.move(1, after, 7)
        assert await store.order(1) == order


async def test_an_order_that_is_not_there_has_no_state(store: AmpStore) -> None:
    """Whatever the number."""
    for order_id in (0, 1, -1, (1 << 63) - 1):
        with pytest.raises(NoSuchOrderError):
            await store.move(order_id, State.CANCELLED, 7)
        with pytest.raises(NoSuchOrderError):
            await store.order(order_id)
