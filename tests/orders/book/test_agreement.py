"""A book in a file and the reference live the same random life, and tell the same story."""

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from orders.book.base import OrderBook, OrderPlace
from orders.book.memory import MemoryOrderBook
from orders.book.sqlite import SqliteOrderBook
from orders.book.states import OrderState
from tests.orders.book.building import NOW_MS, order

T = TypeVar("T")

keys = st.sampled_from("abcdef")
users = st.sampled_from([("Factory_model_customer", 1), ("Other_customer", 2)])
times = st.integers(NOW_MS, NOW_MS + 5)
states = st.sampled_from(list(OrderState))
fates = st.tuples(states, st.none() | st.integers(1, 1 << 40), times)


class Books(RuleBasedStateMachine):
    """Each step is done to both."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name) / "orders.db"
        self._reference = MemoryOrderBook()
        self._book = SqliteOrderBook(self._path)

    def _do(self, answer: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(answer)

    @rule(key=keys, user=users, at=times, amount=st.integers(1, 3))
    def add(self, key: str, user: tuple[str, int], at: int, amount: int) -> None:
        """A new order, or a key that there is already."""
        new = order(key, user=user[0], user_id=user[1], at=at, amount=amount)
        assert self._do(self._book.add(new)) == self._do(self._reference.add(new))

    @rule(
        key=keys, user=users, was=states, then=st.tuples(states, st.none() | st.integers(1, 1 << 40), times)
    )
    def change(
        self, key: str, user: tuple[str, int], was: OrderState, then: tuple[OrderState, int | None, int]
    ) -> None:
        """From a state that it may be in or not."""
        to, number, at = then
        fresh = order(key, user=user[0], user_id=user[1])
        known = self._do(self._reference.order(fresh.id)) or fresh
        changed = msgspec.structs.replace(known, state=to, order_id=number, changed_at=at, detail=to)
        assert self._do(self._book.change(changed, was)) == self._do(self._reference.change(changed, was))

    @rule()
    def open_again(self) -> None:
        """Nothing is forgotten."""
        self._do(self._book.close())
        self._book = SqliteOrderBook(self._path)

    @rule(user=st.none() | users, limit=st.integers(1, 3))
    def page(self, user: tuple[str, int] | None, limit: int) -> None:
        """All pages, one after the other."""
        name = user[0] if user else None
        assert self._pages(self._book, name, limit) == self._pages(self._reference, name, limit)

    def _pages(self, book: OrderBook, user: str | None, limit: int) -> list[str]:
        found: list[str] = []
        place: OrderPlace | None = None
        while page := self._do(book.orders(user, place, limit)):
            found += [one.id for one in page]
            place = OrderPlace(page[-1].received_at, page[-1].id)
        return found

    @invariant()
    def the_same_are_undecided(self) -> None:
        """In whatever order."""
        ours, theirs = (self._do(book.undecided()) for book in (self._book, self._reference))
        assert sorted(one.id for one in ours) == sorted(one.id for one in theirs)

    def teardown(self) -> None:
        """Let go of the file."""
        self._do(self._book.close())
        self._loop.close()
        self._folder.cleanup()


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=20, stateful_step_count=25)  # each begins with a file of its own
