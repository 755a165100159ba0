"""A conditional statement whose answer is lost may have been applied or not; each call finds out which."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from cassandra import OperationTimedOut, Unavailable, WriteTimeout, WriteType
from msgspec.structs import replace

from orders.accounts.cassandra import CassandraAccountStore
from storage.cassandra.asking import Asker
from storage.errors import StoreUnavailableError
from storage.settings import CassandraSettings
from tests.orders.accounts.stores import a_token, cassandra

pytestmark = pytest.mark.cassandra

Lose = Callable[..., None]


@pytest.fixture
async def store(account_keyspace: CassandraSettings) -> AsyncIterator[CassandraAccountStore]:
    """Empty, with a user and a token."""
    opened = cassandra(account_keyspace)()
    assert isinstance(opened, CassandraAccountStore)
    await opened.add_user("Anna", "hash", ("customer",), 1_000)
    await opened.add_token(a_token())
    yield opened
    await opened.close()


@pytest.fixture(params=[True, False], ids=["applied", "not applied"])
def lose(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Lose:
    """Lets the answers of the next conditional statements be lost, after or before they were applied."""
    ask = Asker.ask

    def start(*errors: Exception) -> None:
        left = list(errors)

        async def losing(asker: Asker, cql: str, *values: object) -> list[tuple[Any, ...]]:
            if " IF " not in cql or not left:
                return await ask(asker, cql, *values)
            if request.param:
                await ask(asker, cql, *values)
            raise StoreUnavailableError("no answer") from left.pop(0)

        monkeypatch.setattr(Asker, "ask", losing)

    return start


@pytest.fixture
def twice() -> tuple[Exception, Exception]:
    """What the driver says then, once by the server and once by itself."""
    return WriteTimeout("lost", write_type=WriteType.CAS), OperationTimedOut()


async def test_a_user_is_made_once(
    store: CassandraAccountStore, lose: Lose, twice: tuple[Exception, Exception]
) -> None:
    """And told so, although the name was found taken: by the call itself. No id is lost."""
    lose(*twice)
    made = await store.add_user("Mia", None, ("customer",), 2_000)
    assert made is not None
    assert made.id == 2
    assert await store.add_user("Mia", None, ("customer",), 2_000) is None
    assert [user.name for user in await store.users()] == ["Anna", "Mia"]


async def test_a_name_that_another_has_is_not_mistaken_for_an_own_one(
    store: CassandraAccountStore, lose: Lose, twice: tuple[Exception, Exception]
) -> None:
    """Even where both would be made alike."""
    lose(*twice)
    assert await store.add_user("Anna", "hash", ("customer",), 1_000) is None


async def test_a_change_is_made(
    store: CassandraAccountStore, lose: Lose, twice: tuple[Exception, Exception]
) -> None:
    """Making it again from what is found comes to the same, or ends logins once more."""
    lose(*twice)
    changed = await store.change_user("Anna", lambda user: replace(user, active=False))
    assert changed is not None
    assert not changed.active
    assert await store.user("Anna") == changed


async def test_a_token_is_made_and_revoked_once(
    store: CassandraAccountStore, lose: Lose, twice: tuple[Exception, Exception]
) -> None:
    """And told so."""
    lose(*twice)
    await store.add_token(a_token("a" * 12))
    lose(*twice)
    assert await store.revoke_token("a" * 12, 5_000)
    assert not await store.revoke_token("a" * 12, 6_000)
    assert [token.revoked_at for token in await store.tokens()] == [None, 5_000]


async def test_a_cluster_that_can_not_is_not_asked_again(store: CassandraAccountStore, lose: Lose) -> None:
    """The caller hears it at once."""
    lose(Unavailable("too few nodes"))
    with pytest.raises(StoreUnavailableError):
        await store.change_user("Anna", lambda user: replace(user, roles=("manager",)))
