"""Handshakes take turns: between any two steps everybody else has had a chance, and memory is bounded."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from ingest.turns import Turns
from tests.ingest.floor import reached


def _say(said: list[str], what: str) -> Callable[[], None]:
    return lambda: said.append(what)


async def test_between_any_two_steps_everybody_else_has_a_turn() -> None:
    """In the order in which they came."""
    loop, turns, said = asyncio.get_running_loop(), Turns(), list[str]()

    def other() -> None:
        said.append("other")
        loop.call_soon(other)

    for number in range(5):
        turns.ask(_say(said, f"step {number}"), 100)
    loop.call_soon(other)
    await reached(lambda: "step 4" in said, "the last step")
    steps = [place for place, what in enumerate(said) if what.startswith("step")]
    assert [said[place] for place in steps] == [f"step {number}" for number in range(5)]
    assert all(later - earlier > 1 for earlier, later in pairwise(steps))


async def test_a_step_may_ask_for_the_next_one() -> None:
    turns, said = Turns(), list[str]()

    def first() -> None:
        said.append("first")
        turns.ask(_say(said, "second"), 100)

    turns.ask(first, 100)
    turns.ask(_say(said, "other"), 100)
    await reached(lambda: len(said) == 3, "all steps")
    assert said == ["first", "other", "second"]


async def test_a_step_that_fails_stops_nobody() -> None:
    """It is told to the loop, as for any other call."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    turns, said = Turns(), list[str]()

    def failing() -> None:
        raise ValueError("no")

    turns.ask(failing, 100)
    turns.ask(_say(said, "next"), 100)
    await reached(lambda: said, "the next step")
    assert [type(context["exception"]) for context in told] == [ValueError]


async def test_who_would_bring_too_much_to_wait_has_its_turn_at_once() -> None:
    turns, said = Turns(), list[str]()
    for number in range(16):
        turns.ask(_say(said, f"{number}"), 256 * 1024)
    assert not said
    turns.ask(_say(said, "at once"), 1)
    assert said == ["at once"]
    await reached(lambda: len(said) == 17, "all the others")
    turns.ask(_say(said, "waits again"), 1)
    assert said[-1] == "15"


async def test_it_is_crowded_until_some_have_had_their_turn() -> None:
    turns, said = Turns(), list[str]()
    for number in range(16):
        assert not turns.crowded
        turns.ask(_say(said, f"{number}"), 100)
    assert turns.crowded
    await reached(lambda: said, "the first step")
    assert not turns.crowded
