"""Turns of the loop that requests take one after the other."""

import asyncio
from itertools import pairwise

from web.turns import Turns


async def test_one_goes_on_in_each_turn_of_the_loop_in_the_order_in_which_they_came() -> None:
    """Whoever has to do with the loop comes between any two of them; who gave up is passed over."""
    turns, told = Turns(), list[object]()
    over = asyncio.Event()

    async def go(number: int) -> None:
        await turns.take()
        told.append(number)

    async def neighbour() -> None:
        while not over.is_set():
            told.append("neighbour")
            await asyncio.sleep(0)

    beside = asyncio.create_task(neighbour())
    going = [asyncio.create_task(go(number)) for number in range(10)]
    await asyncio.sleep(0)
    going[5].cancel()
    await asyncio.gather(*going, return_exceptions=True)
    over.set()
    await beside
    assert [each for each in told if each != "neighbour"] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    numbers = [isinstance(each, int) for each in told]
    assert not any(one and other for one, other in pairwise(numbers))


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
