"""What every book promises."""

import asyncio

import msgspec

from orders.book.base import OrderBook, OrderPlace, id_of
from orders.book.states import OrderState
from tests.orders.book.building import NOW_MS, order

MONTH_MS = 31 * 86_400_000


async def test_an_order_is_found_as_it_was_written(book: OrderBook) -> None:
    """All of its columns."""
    written = order("a")
    assert await book.add(written) == written
    assert await book.order(written.id) == written
    assert await book.order("0" * 32) is None


async def test_the_same_key_is_the_same_order(book: OrderBook) -> None:
    """Whoever comes second gets what the first wrote, also with another content."""
    first = await book.add(order("a"))
    again = await book.add(order("a", at=NOW_MS + 5, amount=7))
    assert again == first
    assert await book.orders(None, None, 10) == [first]


async def test_two_customers_may_use_the_same_key() -> None:
    """The id is made of both."""
    assert id_of(1, "a") != id_of(2, "a")
    assert id_of(1, "2a") != id_of(12, "a")


async def test_of_many_who_write_at_once_one_wins(book: OrderBook) -> None:
    """All of them get the same order back."""
    written = await asyncio.gather(*(book.add(order("a", at=NOW_MS + n)) for n in range(8)))
    assert len({one.received_at for one in written}) == 1
    assert len(await book.orders(None, None, 10)) == 1


async def test_a_state_changes_only_from_where_it_was(book: OrderBook) -> None:
    """So of two who decide one order's fate, one is told that it was too late."""
    written = await book.add(order("a"))
    sent = msgspec.structs.replace(
        written, state=OrderState.SENT, order_id=9, product_id=8, price=600, changed_at=NOW_MS + 1
    )
    failed = msgspec.structs.replace(written, state=OrderState.FAILED, detail="away")
    assert await book.change(sent, OrderState.FORWARDING)
    assert not await book.change(failed, OrderState.FORWARDING)
    assert await book.order(written.id) == sent


async def test_an_order_that_is_not_there_can_not_change(book: OrderBook) -> None:
    """Nothing is made by changing."""
    assert not await book.change(order("a"), OrderState.FORWARDING)
    assert await book.order(order("a").id) is None


async def test_lists_are_the_newest_first_and_go_on_where_they_ended(book: OrderBook) -> None:
    """Over months, without overlap or gap, of one customer and of all."""
    mine = [await book.add(order(f"k{n}", at=NOW_MS + n * MONTH_MS // 3)) for n in range(9)]
    theirs = await book.add(order("k0", user="Somebody_else", user_id=2, at=NOW_MS + 1))
    pages, place = [], None
    while page := await book.orders("Factory_model_customer", place, 2):
        pages += page
        place = OrderPlace(page[-1].received_at, page[-1].id)
    assert pages == mine[::-1]
    everybody = await book.orders(None, None, 20)
    assert everybody == sorted([*mine, theirs], key=lambda one: (one.received_at, one.id), reverse=True)


async def test_undecided_are_those_that_are_being_forwarded(book: OrderBook) -> None:
    """One that failed and is tried again is undecided again."""
    first, second = await book.add(order("a")), await book.add(order("b"))
    failed = msgspec.structs.replace(first, state=OrderState.FAILED, detail="away")
    assert await book.change(failed, OrderState.FORWARDING)
    assert await book.undecided() == [second]
    assert await book.change(msgspec.structs.replace(first, changed_at=NOW_MS + 2), OrderState.FAILED)
    assert {one.id for one in await book.undecided()} == {first.id, second.id}
