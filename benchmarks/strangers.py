"""Two hundred strangers who do all that a server should not have to bear, in processes of their own.

Each has one way of being a nuisance and an address of its own (all of loopback), and a tenth of a second
after a visit the next one begins. They come with less priority than anybody else on this machine: in a plant
they would bring processors of their own, and what is measured is what they cost the server.
A visit, and all of them together, end after a time, whether the server does something or not.
"""

import asyncio
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from typing import Final

import uvloop

from benchmarks import nuisances
from benchmarks.nuisances import Act, Door, Stranger

_PROCESSES: Final = 2
_LONGEST_S: Final = 900.0
_BEGIN_S: Final = 30.0
_NICE: Final = 19

ANYWHERE: Final[list[tuple[Act, int, str]]] = [
    (nuisances.garbage, 20, ""),
    (nuisances.endless, 20, ""),
    (nuisances.flood, 25, ""),
    (nuisances.drip, 25, ""),
    (nuisances.deaf, 25, ""),
    (nuisances.reset, 25, ""),
    (nuisances.crowd, 20, ""),
    (nuisances.forbidden, 20, ""),
    (nuisances.no_http, 5, ""),
    (nuisances.deaf_page, 5, ""),
    (nuisances.dear_page, 10, ""),
]
"""What they do, how many of them, and with whose certificate; the last doesn't matter here."""

OVER_TLS: Final[list[tuple[Act, int, str]]] = [
    (nuisances.garbage, 14, "garbage"),
    (nuisances.endless, 14, "endless"),
    (nuisances.flood, 14, "flood"),
    (nuisances.drip, 14, "drip"),
    (nuisances.deaf, 14, "deaf"),
    (nuisances.reset, 12, ""),
    (nuisances.crowd, 12, "crowd"),
    (nuisances.forbidden, 12, ""),
    (nuisances.of_another, 10, "other"),
    (nuisances.stay, 18, "namesake"),
    (nuisances.plain_text, 10, ""),
    (nuisances.stalled, 8, ""),
    (nuisances.greedy, 4, ""),
    (nuisances.dear, 4, ""),
    (nuisances.stay, 7, "nobody"),
    (nuisances.stay, 7, "foreign"),
    (nuisances.stay, 6, "distrustful"),
    (nuisances.no_http, 5, ""),
    (nuisances.deaf_page, 5, ""),
    (nuisances.dear_page, 10, ""),
]
"""The same where the server speaks TLS: those who are in have stolen a certificate of the plant."""

STOLEN: Final = ("garbage", "endless", "flood", "drip", "deaf", "crowd", "other", "namesake")
OF_ADDRESS: Final = 8
"""Connections that one address may have: fewer than the crowd's."""

OF_IDENTITY: Final = 16
"""Connections that one identity may have: fewer than the namesakes'."""


def _context(door: Door, kind: str) -> ssl.SSLContext | None:
    """How one of them speaks TLS, if it does."""
    if door.plant is None or door.foreign is None or not kind:
        return None
    if kind == "distrustful":  # hangs up when it sees the server's certificate
        return door.foreign.client("foreign")
    if kind == "foreign":
        context = door.plant.client(None)
        context.load_cert_chain(f"{door.foreign.folder}/foreign.pem", f"{door.foreign.folder}/foreign.key")
        return context
    return door.plant.client(None if kind == "nobody" else kind)


def everybody(door: Door) -> list[tuple[Act, Stranger]]:
    """All of them."""
    acts = ANYWHERE if door.plant is None else OVER_TLS
    found: list[tuple[Act, Stranger]] = []
    for act, count, kind in acts:
        context = _context(door, kind)
        for _ in range(count):
            stranger = Stranger(door, len(found))
            stranger.context = context
            found.append((act, stranger))
    return found


@contextmanager
def beset(door: Door) -> Iterator[None]:
    """Have them all come for as long as the context lasts."""
    spawning = get_context("spawn")
    begun = [spawning.Event() for _ in range(_PROCESSES)]
    processes = [
        spawning.Process(target=_process, args=(door, place, each), daemon=True)
        for place, each in enumerate(begun)
    ]
    try:
        for process in processes:
            process.start()
        if not all(each.wait(_BEGIN_S) for each in begun):
            raise RuntimeError("the strangers did not begin")
        yield
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join(_BEGIN_S)


def _process(door: Door, place: int, begun: Event) -> None:
    os.nice(_NICE)
    begun.set()
    uvloop.run(_besiege(everybody(door)[place::_PROCESSES]))


async def _besiege(strangers: list[tuple[Act, Stranger]]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_LONGEST_S), asyncio.TaskGroup() as group:
            for act, stranger in strangers:
                group.create_task(stranger.annoy(act))
