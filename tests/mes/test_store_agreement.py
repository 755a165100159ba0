"""The store and a few lines of plain Python live through the same orders, and must tell the same story."""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mes.amp.errors import KeyReusedError, NoSuchOrderError, TransitionError
from mes.amp.orders import NewOrder, Order, Placed
from mes.amp.states import TRANSITIONS, State
from mes.amp.store import AmpStore
from tests.mes.amp import ROW

T = TypeVar("T")

OPEN = (State.QUEUED, State.IN_PRODUCTION)
keys = st.sampled_from(["a", "b", "c", "d"])
digests = st.sampled_from([b"one", b"two"])


class Model:
    """What AMP promises, over a list."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.requests: dict[str, tuple[int, bytes]] = {}

    def place(self, key: str, digest: bytes, new: NewOrder) -> tuple[int, bool]:
        """Number and whether it is new."""
        if key in self.requests:
            order_id, before = self.requests[key]
            if before != digest:
                raise KeyReusedError(order_id)
            return order_id, False
        order_id = len(self.orders) + 1
        row = msgspec.structs.asdict(new)
        at = new.received_at
        self.orders.append(Order(**row, order_id=order_id, state=State.QUEUED, changed_at=at, place=None))
        self.requests[key] = (order_id, digest)
        return order_id, True

    def move(self, order_id: int, state: State, at: int) -> None:
        """By the table."""
        if order_id > len(self.orders):
            raise NoSuchOrderError
        order = self.orders[order_id - 1]
        if state not in TRANSITIONS[order.state]:
            raise TransitionError(order.state, state)
        self.orders[order_id - 1] = msgspec.structs.replace(order, state=state, changed_at=at)

    def order(self, order_id: int) -> Order:
        """With its place counted the slow way."""
        order = self.orders[order_id - 1]
        before = [each for each in self.orders[:order_id] if each.state in OPEN]
        return msgspec.structs.replace(order, place=len(before) if order.state in OPEN else None)

    def queue(self, states: tuple[State, ...]) -> list[Order]:
        """By number."""
        return [self.order(each.order_id) for each in self.orders if each.state in states]


class Lives(RuleBasedStateMachine):
    """The same calls to both."""

    @initialize(placed=st.sampled_from([0, 0, 250]))
    def begin(self, placed: int) -> None:
        """A new file, at times with many orders that are gone, so that numbers are near a border."""
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.store = AmpStore(self.folder / "mes.db")
        self.model = Model()
        self.at = ROW.received_at
        self._run(self._place_many(placed))

    async def _place_many(self, count: int) -> None:
        """Of which only the last few stay open."""
        names = [f"many {number}" for number in range(count)]
        await self._place(names, ROW)
        moves = range(1, count - 3)
        await asyncio.gather(*(self.store.move(number, State.CANCELLED, self.at) for number in moves))
        for name in names:
            self.model.place(name, b"", ROW)
        for number in moves:
            self.model.move(number, State.CANCELLED, self.at)

    async def _place(self, names: list[str], new: NewOrder) -> list[Placed]:
        return await asyncio.gather(*(self.store.place(name, b"", new) for name in names))

    @rule(key=keys, digest=digests, amount=st.integers(1, 1_000_000))
    def place(self, key: str, digest: bytes, amount: int) -> None:
        """A new order, the same again, or a key that belongs to another."""
        new = msgspec.structs.replace(ROW, amount=amount, received_at=self._tick())
        try:
            expected = self.model.place(key, digest, new)
        except KeyReusedError:
            with pytest.raises(KeyReusedError):
                self._run(self.store.place(key, digest, new))
            return
        order, is_new = self._run(self.store.place(key, digest, new))
        assert (order.order_id, is_new) == expected
        assert order == self.model.order(order.order_id)

    @rule(count=st.integers(1, 20))
    def place_more(self, count: int) -> None:
        """With keys that nobody had, at once."""
        new = msgspec.structs.replace(ROW, received_at=self._tick())
        names = [f"more {self.at} {number}" for number in range(count)]
        expected = [self.model.place(name, b"", new) for name in names]
        placed = self._run(self._place(names, new))
        assert [(order.order_id, is_new) for order, is_new in placed] == expected

    @rule(place=st.integers(0, 30), state=st.sampled_from(State))
    def move(self, place: int, state: State) -> None:
        """One of the newest orders gets on, or can't."""
        order_id = max(1, len(self.model.orders) + 1 - place)
        at = self._tick()
        try:
            self.model.move(order_id, state, at)
        except (NoSuchOrderError, TransitionError) as error:
            with pytest.raises(type(error)):
                self._run(self.store.move(order_id, state, at))
            return
        assert self._run(self.store.move(order_id, state, at)) == self.model.order(order_id)

    @rule()
    def reopen(self) -> None:
        """A new process finds what the one before it left."""
        self._run(self.store.close())
        self.store = AmpStore(self.folder / "mes.db")

    @invariant()
    def they_agree(self) -> None:
        """On the queue, on every state, and on each of the newest orders."""
        assert self._run(self.store.queue(None, after=0, limit=9_999)) == self.model.queue(OPEN)
        for state in State:
            found = self._run(self.store.queue(state, after=240, limit=9_999))
            assert found == [order for order in self.model.queue((state,)) if order.order_id > 240]
        newest = range(max(1, len(self.model.orders) - 5), len(self.model.orders) + 1)
        assert self._run(self.store.orders([*newest, 9_999])) == [self.model.order(each) for each in newest]

    def teardown(self) -> None:
        """Let go of everything."""
        self._run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def _tick(self) -> int:
        self.at += 1
        return self.at

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=25, stateful_step_count=20)
