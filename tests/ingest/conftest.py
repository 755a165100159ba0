"""The loop that the server runs on."""

import asyncio
from collections.abc import Callable

import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Sockets behave as they do in the server."""
    return {"uvloop": uvloop.new_event_loop}
