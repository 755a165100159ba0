"""A process that runs out of file descriptors on purpose, with a listener in it; fails unless that recovers.

Everything it needs meanwhile is opened before, as nothing can be opened then.
"""

import asyncio
import os
import resource
import socket
from typing import Any

import uvloop
from structlog.testing import capture_logs

from tests.ingest.floor import RECORD, Floor, floor, reached

_STRANGERS = 10


async def main() -> None:
    """Take all descriptors, let strangers knock, give them back."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    with capture_logs() as lines:
        async with floor() as shop:
            await _exhaust(shop)
    assert not failures, failures
    said = [line["event"] for line in lines if line["event"] == "listener_rests"]
    assert said == ["listener_rests"], "one line, however often it rested"


async def _exhaust(shop: Floor) -> None:
    steady = await shop.connect(acknowledged=True)
    strangers = [socket.socket() for _ in range(_STRANGERS)]
    taken = _take_all()
    for stranger in strangers:
        stranger.connect(("127.0.0.1", shop.listener.ports[0]))  # into the kernel's queue, so at once
    await reached(lambda: shop.metrics.rests._value.get() >= 2, "two rests")
    await steady.send(RECORD * 7)
    assert await steady.acknowledged() == 7, "who is connected goes on"
    assert len(shop.opened) == 1
    for descriptor in taken:
        os.close(descriptor)
    await reached(lambda: len(shop.opened) == 1 + _STRANGERS, "all who waited are let in")
    for stranger in strangers:
        stranger.close()
    await steady.close()


def _take_all() -> list[int]:
    taken: list[int] = []
    while True:
        try:
            taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return taken


if __name__ == "__main__":
    uvloop.run(main())
