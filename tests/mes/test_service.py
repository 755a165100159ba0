"""What the service does with an order, and what it says about it."""

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from mes.amp.errors import KeyReusedError, RefusedError, TransitionError
from mes.amp.service import AmpService
from mes.amp.states import State
from tests.mes.amp import GIVEN, STAMP_MS, Clock, changed


@pytest.fixture
def logs() -> Iterator[list[EventDict]]:
    """What is logged."""
    with capture_logs() as captured:
        yield captured


def events(logs: list[EventDict]) -> list[str]:
    """The steps in their order."""
    return [str(entry["event"]) for entry in logs]


async def test_an_order_is_priced_stamped_and_queued(service: AmpService, logs: list[EventDict]) -> None:
    """And each step is logged, with what it is about."""
    order, is_new = await service.place("key", GIVEN)
    assert is_new
    assert (order.order_id, order.user_id, order.product_id) == (1, 1, 8)
    assert (order.amount, order.price, order.received_at) == (40, 600, STAMP_MS)
    assert (order.state, order.place) == (State.QUEUED, 1)
    received, queued = logs
    assert (received["event"], received["order_id"], received["price"]) == ("order_received", 1, 600)
    assert (queued["event"], queued["order_id"], queued["place"]) == ("order_queued", 1, 1)


async def test_the_same_request_is_the_same_order(
    service: AmpService, clock: Clock, logs: list[EventDict]
) -> None:
    """Stamped when it came first; another request under its key is refused."""
    first = (await service.place("key", GIVEN)).order
    clock.ms += 1_000
    assert await service.place("key", GIVEN) == (first, False)
    with pytest.raises(KeyReusedError):
        await service.place("key", changed(GIVEN, amount=41))
    assert events(logs) == ["order_received", "order_queued", "order_repeated", "order_refused"]


async def test_what_can_not_be_made_is_refused_and_leaves_nothing(
    service: AmpService, logs: list[EventDict]
) -> None:
    """The log says why, without the customer's words; the key is free."""
    with pytest.raises(RefusedError, match="base: must be"):
        await service.place("key", changed(GIVEN, base="%s of {gold}"))
    (entry,) = logs
    assert (entry["event"], entry["log_level"]) == ("order_refused", "warning")
    assert "gold" not in str(entry)
    assert (await service.place("key", GIVEN)).order.order_id == 1


async def test_an_order_can_be_cancelled_until_production_begins(
    service: AmpService, clock: Clock, logs: list[EventDict]
) -> None:
    """Then it is refused, and the line goes on."""
    for key in ("one", "two"):
        await service.place(key, GIVEN)
    clock.ms += 5
    cancelled = await service.cancel(1)
    assert (cancelled.state, cancelled.changed_at, cancelled.place) == (State.CANCELLED, STAMP_MS + 5, None)
    assert (await service.order(2)).place == 1
    await service.set_state(2, State.IN_PRODUCTION)
    with pytest.raises(TransitionError, match="in production can't become cancelled"):
        await service.cancel(2)
    assert events(logs)[4:] == ["order_cancelled", "order_state_changed", "order_refused"]
    assert [order.order_id for order in await service.orders([1, 2])] == [1, 2]


async def test_the_queue_shows_what_is_open_and_by_state_what_is_over(service: AmpService) -> None:
    """The newest last."""
    for key in ("one", "two", "three"):
        await service.place(key, GIVEN)
    for order_id in (1, 2):
        await service.set_state(order_id, State.IN_PRODUCTION)
        await service.set_state(order_id, State.DONE)
    assert [order.order_id for order in await service.queue()] == [3]
    assert [order.order_id for order in await service.queue(state=State.DONE)] == [1, 2]
    assert [order.order_id for order in await service.queue(state=State.DONE, after=1, limit=1)] == [2]
