"""Turns of the loop that requests take, a few at a time."""

import asyncio
from itertools import groupby

from web.turns import AT_ONCE, Turns


async def test_a_few_go_on_in_each_turn_of_the_loop_in_the_order_in_which_they_came() -> None:
    """Whoever has to do with the loop comes between them; who gave up is passed over."""
    turns, told = Turns(), list[int | None]()
    over = asyncio.Event()

    async def go(number: int) -> None:
        await turns.take()
        told.append(number)

    async def neighbour() -> None:
        while not over.is_set():
            told.append(None)
            await asyncio.sleep(0)

    beside = asyncio.create_task(neighbour())
    going = [asyncio.create_task(go(number)) for number in range(10 * AT_ONCE)]
    await asyncio.sleep(0)
    going[-1].cancel()
    await asyncio.gather(*going, return_exceptions=True)
    over.set()
    await beside
    assert [each for each in told if each is not None] == list(range(10 * AT_ONCE - 1))
    together = [len(list(group)) for waits, group in groupby(told, lambda each: each is None) if not waits]
    assert max(together) == AT_ONCE


async def test_who_asks_alone_waits_for_nobody() -> None:
    """Not even for one turn of the loop."""
    turns = Turns()
    for _ in range(3):
        taking = turns.take()
        try:
            taking.send(None)
        except StopIteration:
            await asyncio.sleep(0)
            continue
        raise AssertionError("it waits")
