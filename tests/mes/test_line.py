"""The line works through the queue on its clock, and forgets nothing when it is stopped."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mes.amp.line import RETRY_S, Line, producing, wait_for
from mes.amp.orders import Order
from mes.amp.service import AmpService
from mes.amp.states import State
from mes.amp.store import AmpStore
from storage.errors import StoreFullError
from tests.mes.amp import GIVEN, STAMP_MS, Clock, changed
from tests.web.shop import until

Wait = Callable[[asyncio.Event, float | None], Awaitable[None]]


class IdleError(Exception):
    """The line has nothing to do."""


class StoppedError(Exception):
    """The process ended while the line was working."""


def moving(clock: Clock) -> Wait:
    """Work takes its time on the clock; having none ends the run."""

    async def wait(_: asyncio.Event, timeout_s: float | None) -> None:
        if timeout_s is None:
            raise IdleError
        clock.ms += round(timeout_s * 1_000)

    return wait


async def place(service: AmpService, *amounts: int) -> None:
    """Orders of so many pieces."""
    for number, amount in enumerate(amounts):
        await service.place(f"key {number}", changed(GIVEN, amount=amount))


async def run_until_idle(service: AmpService, piece_s: float, clock: Clock) -> None:
    """Until there is nothing to produce."""
    with pytest.raises(IdleError):
        await Line(service, piece_s, now_ms=clock.now_ms, wait=moving(clock)).run()


async def test_orders_are_made_one_after_the_other(service: AmpService, clock: Clock) -> None:
    """Each takes its amount times the time of a piece."""
    await place(service, 40, 2)
    await run_until_idle(service, 1.5, clock)
    first, second = await service.queue(state=State.DONE)
    assert (first.order_id, first.changed_at) == (1, STAMP_MS + 60_000)
    assert (second.order_id, second.changed_at) == (2, STAMP_MS + 63_000)


async def test_the_order_in_production_is_the_first_of_the_queue(service: AmpService, clock: Clock) -> None:
    """While the others wait; it can't be cancelled, they can."""
    await place(service, 1, 1, 1)
    seen: list[Order] = []

    async def wait(_: asyncio.Event, timeout_s: float | None) -> None:
        assert timeout_s == 1
        seen.extend(await service.queue())
        await service.cancel(2)
        raise StoppedError

    with pytest.raises(StoppedError):
        await Line(service, 1, now_ms=clock.now_ms, wait=wait).run()
    assert [(order.order_id, order.place) for order in seen] == [(1, 1), (2, 2), (3, 3)]
    assert [order.state for order in seen] == [State.IN_PRODUCTION, State.QUEUED, State.QUEUED]
    await run_until_idle(service, 1, clock)
    assert [order.order_id for order in await service.queue(state=State.DONE)] == [1, 3]


async def test_after_a_restart_the_line_goes_on_where_it_was(
    service: AmpService, store: AmpStore, clock: Clock, tmp_path: Path
) -> None:
    """The order is done when it would have been, and not begun again."""
    await place(service, 10, 1)

    async def stopped(_: asyncio.Event, timeout_s: float | None) -> None:
        assert timeout_s == 10
        clock.ms += 4_000
        raise StoppedError

    with pytest.raises(StoppedError):
        await Line(service, 1, now_ms=clock.now_ms, wait=stopped).run()
    await store.close()
    again = AmpStore(tmp_path / "mes.db")
    await run_until_idle(AmpService(again, now_ms=clock.now_ms), 1, clock)
    first, second = await again.queue(State.DONE, after=0, limit=9)
    assert (first.order_id, first.changed_at) == (1, STAMP_MS + 10_000)
    assert (second.order_id, second.changed_at) == (2, STAMP_MS + 11_000)
    await again.close()


async def test_a_clock_that_was_set_back_does_not_stretch_the_work(service: AmpService, clock: Clock) -> None:
    """It takes what is left at most once more."""
    await place(service, 1)
    await service.set_state(1, State.IN_PRODUCTION)
    clock.ms -= 86_400_000
    with pytest.raises(IdleError):
        await Line(service, 1, now_ms=clock.now_ms, wait=_asserting(clock, at_most_s=1.0)).run()
    assert (await service.order(1)).state is State.DONE


def _asserting(clock: Clock, *, at_most_s: float) -> Wait:
    """The clock is right again after the first wait."""

    async def wait(_: asyncio.Event, timeout_s: float | None) -> None:
        if timeout_s is None:
            raise IdleError
        assert timeout_s <= at_most_s
        clock.ms = STAMP_MS + 1_000

    return wait


async def test_what_somebody_calls_done_is_not_worked_on_any_more(service: AmpService, clock: Clock) -> None:
    """The line looks up when an order changes its state, and takes the next."""
    await place(service, 1_000_000, 1)
    line = asyncio.create_task(Line(service, 3_600, now_ms=clock.now_ms).run())
    await _until_state(service, 1, State.IN_PRODUCTION)
    await service.set_state(1, State.DONE)
    await _until_state(service, 2, State.IN_PRODUCTION)
    line.cancel()


async def test_an_idle_line_takes_an_order_as_soon_as_it_comes(service: AmpService) -> None:
    """On the real clock; when the context ends, the line does."""
    async with producing(service, 0.001):
        await place(service, 1)
        await _until_state(service, 1, State.DONE)
    await service.place("later", GIVEN)
    await asyncio.sleep(0)
    assert (await service.order(2)).state is State.QUEUED


async def test_without_a_time_for_a_piece_nobody_produces(service: AmpService) -> None:
    """States are then set by hand."""
    async with producing(service, 0):
        await place(service, 1)
        assert len(asyncio.all_tasks()) == 1


async def _until_state(service: AmpService, order_id: int, state: State) -> None:
    async def reached() -> bool:
        return (await service.order(order_id)).state is state

    await until(reached)


async def test_a_line_that_others_are_quicker_than_takes_the_next(
    service: AmpService, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order may be cancelled between being seen and being taken."""
    await place(service, 1, 1)
    seen = service.queue

    async def cancelled_meanwhile(**how: object) -> list[Order]:
        found = await seen(state=State(str(how["state"])), limit=1)
        if found and found[0].order_id == 1:
            await service.cancel(1)
        return found

    monkeypatch.setattr(service, "queue", cancelled_meanwhile)
    await run_until_idle(service, 1, clock)
    assert (await service.order(1)).state is State.CANCELLED
    assert (await service.order(2)).state is State.DONE


async def test_a_line_whose_store_fails_tries_again(
    service: AmpService, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, and nothing is lost."""
    await place(service, 1)
    failures = [StoreFullError("full"), StoreFullError("full")]
    works = service.set_state

    async def failing(order_id: int, state: State) -> Order:
        if failures:
            raise failures.pop()
        return await works(order_id, state)

    monkeypatch.setattr(service, "set_state", failing)
    await run_until_idle(service, 1, clock)
    assert clock.ms == STAMP_MS + 2 * RETRY_S * 1_000 + 1_000


async def test_a_mistake_in_the_line_is_logged(service: AmpService, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once; orders are taken all the same."""
    monkeypatch.setattr(service, "queue", lambda **_: 1 / 0)
    with capture_logs() as logs:
        async with producing(service, 1):
            await until(lambda: bool(logs))
            await place(service, 1)
    assert [entry["event"] for entry in logs] == ["line_ended", "order_received", "order_queued"]
    assert isinstance(logs[0]["exc_info"], ZeroDivisionError)


async def test_waiting_ends_with_the_event_or_the_time() -> None:
    """Whichever is first."""
    event = asyncio.Event()
    await wait_for(event, 0.001)
    event.set()
    await wait_for(event, None)
