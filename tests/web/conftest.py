"""A served shop and a client for it, in the loop that the server runs in."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import aiohttp
import pytest
import pytest_asyncio
import uvloop

from tests.web.desk import Desk
from tests.web.shop import Shop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """All tests here run on uvloop, as the server does."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def shop() -> Shop:
    """A shop floor whose machines have sent nothing yet."""
    return Shop()


@pytest_asyncio.fixture
async def client(shop: Shop) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the served shop, with paths relative to its address."""
    async with shop.serve() as address, aiohttp.ClientSession(address.url) as session:
        yield session


@pytest_asyncio.fixture
async def desk(shop: Shop, capfd: pytest.CaptureFixture[str]) -> AsyncIterator[Desk]:
    """Where people log in, not served yet; in the end, nothing secret was seen anywhere."""
    desk = Desk(shop)
    yield desk
    seen = "".join([*map(str, await desk.all_rows()), *capfd.readouterr()])
    assert not [secret for secret in desk.secrets if secret in seen]
