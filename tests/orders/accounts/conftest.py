"""Each test that takes `opener` runs over every store; `store` is one that is open."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from orders.accounts.base import AccountStore
from orders.accounts.memory import MemoryAccountStore
from storage.settings import CassandraSettings
from tests.orders.accounts.acting import Clock, Gate, Gateway, Recorded
from tests.orders.accounts.stores import EMBEDDED, Opener, cassandra
from tests.support.cassandra import Cassandra


@pytest.fixture(params=[*EMBEDDED, pytest.param("cassandra", marks=pytest.mark.cassandra)])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens empty accounts of each kind."""
    if request.param == "cassandra":
        return cassandra(request.getfixturevalue("account_keyspace"))
    return EMBEDDED[request.param](tmp_path)


@pytest.fixture
async def store(opener: Opener) -> AsyncIterator[AccountStore]:
    """Empty, and open."""
    opened = opener()
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def account_keyspace(cassandra: Cassandra) -> CassandraSettings:
    """A keyspace of its own on the cluster that all tests share."""
    return CassandraSettings(
        contact_points=tuple(cassandra.contact_points), port=cassandra.port, keyspace=cassandra.keyspace()
    )


@pytest.fixture
def clock() -> Clock:
    """Time, which goes on when it is told."""
    return Clock()


@pytest.fixture
def log() -> Recorded:
    """What was said."""
    return Recorded()


@pytest.fixture
def accounts() -> MemoryAccountStore:
    """The reference; what differs between stores, the conformance suite shows."""
    return MemoryAccountStore()


@pytest.fixture
async def gateway(accounts: MemoryAccountStore, clock: Clock, log: Recorded) -> AsyncIterator[Gateway]:
    """With a user Anna, who is a customer."""
    made = Gateway(accounts, clock, log)
    await made.add("Anna", "customer", "operator")
    log.said.clear()
    yield made
    await made.close()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Closed at first; opened after the test in any case."""
    made = Gate()
    monkeypatch.setattr(PasswordHasher, "verify", made.verify)
    yield made
    made.opened.set()
