"""The supplier's service over a file, with a clock that a test moves."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mes.amp.service import AmpService
from mes.amp.store import AmpStore
from tests.mes.amp import Clock


@pytest.fixture
def clock() -> Clock:
    """It stands until a test moves it."""
    return Clock()


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[AmpStore]:
    """Without any order."""
    opened = AmpStore(tmp_path / "mes.db")
    yield opened
    await opened.close()


@pytest.fixture
def service(store: AmpStore, clock: Clock) -> AmpService:
    """Over that store and that clock."""
    return AmpService(store, now_ms=clock.now_ms)
