"""Each test that takes a `store` runs against every store there is."""

from pathlib import Path

import pytest

from storage.settings import RejectQuota
from tests.storage.stores import STORES, Store


@pytest.fixture
def quota() -> RejectQuota:
    """How many rejects the store keeps; small, so that tests reach it."""
    return RejectQuota(per_connection=4, per_minute=6, rows=9)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path, quota: RejectQuota) -> Store:
    """An empty store of each kind."""
    return STORES[request.param](tmp_path, quota)
