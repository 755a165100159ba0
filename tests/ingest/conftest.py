"""The loop that the server runs on, and what must never come to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Sockets behave as they do in the server."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def nothing_unexpected() -> AsyncIterator[None]:
    """Whatever strangers do, nothing gets as far as the loop's exception handler."""
    unexpected: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unexpected.append(context))
    yield
    assert not unexpected
