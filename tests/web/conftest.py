"""A served shop and a client for it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.web.shop import Shop


@pytest.fixture
def shop() -> Shop:
    """A shop floor whose machines have sent nothing yet."""
    return Shop()


@pytest_asyncio.fixture
async def client(shop: Shop) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the served shop, with paths relative to its address."""
    async with shop.serve() as address, aiohttp.ClientSession(address.url) as session:
        yield session
