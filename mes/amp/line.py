"""The production line: one order after the other, each for its amount times the time of a piece.

The line remembers nothing: an order is in production since `changed_at`, which the store knows, so after a
restart it goes on, and is done when it would have been. While it works it looks up whenever an order
changes its state, as somebody may say that this one is done.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from mes.amp.errors import AmpError
from mes.amp.orders import Order
from mes.amp.service import AmpService
from mes.amp.states import State
from storage.clock import now_ms
from storage.errors import StorageError

RETRY_S: Final = 5.0
"""After the store could not be used."""

_LONGEST_WAIT_S: Final = 3_600.0
"""Then the line looks at the clock again, which may have been set."""

_log = structlog.get_logger(__name__)


async def wait_for(event: asyncio.Event, timeout_s: float | None) -> None:
    """Until the event is set, or so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()


class Line:
    """Produces what is in the queue; `piece_s` is how long a piece takes, in seconds."""

    def __init__(
        self,
        service: AmpService,
        piece_s: float,
        *,
        now_ms: Callable[[], int] = now_ms,
        wait: Callable[[asyncio.Event, float | None], Awaitable[None]] = wait_for,
    ) -> None:
        self._service = service
        self._piece_ms = piece_s * 1_000
        self._now_ms = now_ms
        self._wait = wait

    async def run(self) -> None:
        """Produce until it is cancelled."""
        while True:
            try:
                await self._step()
            except AmpError:  # somebody was quicker, and the service has logged it
                continue
            except StorageError as error:
                _log.error("line_stands", reason=str(error))
                await self._wait(self._service.moved, RETRY_S)

    async def _step(self) -> None:
        """Do what can be done now, or wait until something can."""
        self._service.arrived.clear()
        self._service.moved.clear()
        order = await self._next()
        if order is None:
            await self._wait(self._service.arrived, None)
        elif order.state is State.QUEUED:
            await self._service.set_state(order.order_id, State.IN_PRODUCTION)
        elif (left_ms := self._left_ms(order)) > 0:
            await self._wait(self._service.moved, min(left_ms / 1_000, _LONGEST_WAIT_S))
        else:
            await self._service.set_state(order.order_id, State.DONE)

    async def _next(self) -> Order | None:
        """What is in production already, or what has waited longest."""
        for state in (State.IN_PRODUCTION, State.QUEUED):
            for order in await self._service.queue(state=state, limit=1):
                return order
        return None

    def _left_ms(self, order: Order) -> float:
        """A clock that was set back does not make it longer than the work is."""
        work_ms = order.amount * self._piece_ms
        return min(work_ms, order.changed_at + work_ms - self._now_ms())


@asynccontextmanager
async def producing(service: AmpService, piece_s: float) -> AsyncIterator[None]:
    """A line that works for as long as the context lasts; none where a piece takes no time."""
    if not piece_s:
        yield
        return
    working = asyncio.create_task(Line(service, piece_s).run())
    working.add_done_callback(_tell_end)
    try:
        yield
    finally:
        working.cancel()
        await asyncio.wait({working})


def _tell_end(working: "asyncio.Task[None]") -> None:
    """A line that ends by itself has a mistake in it."""
    if not working.cancelled():
        _log.error("line_ended", exc_info=working.exception())
