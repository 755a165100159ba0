"""What every store of accounts must do, written once."""

import asyncio
from collections import Counter

import pytest
from msgspec.structs import replace

from orders.accounts.base import AccountStore, User
from storage.errors import StorageError
from tests.orders.accounts.stores import Opener, a_session, a_token


async def add(store: AccountStore, *names: str) -> list[User | None]:
    """Users of these names, one after the other."""
    return [await store.add_user(name, f"hash of {name}", ("customer",), 1_000) for name in names]


async def test_a_new_user_is_active_and_read_as_it_was_made(store: AccountStore) -> None:
    """With and without a password, roles in their order."""
    made = await store.add_user("Anna", "hash", ("operator", "customer"), 1_721_857_896_590)
    assert made == User(
        id=1,
        name="Anna",
        password_hash="hash",  # noqa: S106  # of nobody
        roles=("operator", "customer"),
        active=True,
        generation=0,
        created_at=1_721_857_896_590,
    )
    assert await store.user("Anna") == made
    program = await store.add_user("plant.mes@amp-1", None, (), 5)
    assert await store.user("plant.mes@amp-1") == program
    assert program is not None
    assert (program.id, program.password_hash, program.roles) == (2, None, ())


async def test_a_name_is_given_once(store: AccountStore) -> None:
    """The second gets None, the first keeps everything, and no id is lost by it."""
    (first,) = await add(store, "Anna")
    assert await store.add_user("Anna", "another", ("administrator",), 9) is None
    assert await store.user("Anna") == first
    (next_,) = await add(store, "anna")
    assert next_ is not None
    assert next_.id == 2


async def test_users_come_by_id(store: AccountStore) -> None:
    """Not by name; none where there is none."""
    assert await store.users() == []
    made = await add(store, "Zoe", "Anna", "Mia")
    assert await store.users() == made
    assert await store.user("nobody") is None


async def test_ids_have_no_gap_and_names_one_owner_whoever_adds_at_once(opener: Opener) -> None:
    """Two programs add the same names at the same time."""
    stores = [opener(), opener()]
    names = [f"user{number}" for number in range(6)]
    made = await asyncio.gather(*(add(store, name) for name in names for store in stores))
    owners = Counter(user.name for (user,) in made if user is not None)
    assert owners == dict.fromkeys(names, 1)
    assert [user.id for user in await stores[0].users()] == [1, 2, 3, 4, 5, 6]
    for store in stores:
        await store.close()


async def test_a_user_is_changed_in_one_step(store: AccountStore) -> None:
    """All that may change, and afterwards it is read so; None for a name that nobody has."""
    await add(store, "Anna", "Mia")
    changed = await store.change_user(
        "Anna",
        lambda user: replace(user, password_hash=None, roles=("manager",), active=False, generation=7),
    )
    assert changed is not None
    assert (changed.id, changed.name, changed.roles, changed.active) == (1, "Anna", ("manager",), False)
    assert (changed.password_hash, changed.generation, changed.created_at) == (None, 7, 1_000)
    assert await store.user("Anna") == changed
    assert await store.user("Mia") == User(
        id=2,
        name="Mia",
        password_hash="hash of Mia",  # noqa: S106  # of nobody
        roles=("customer",),
        active=True,
        generation=0,
        created_at=1_000,
    )
    assert await store.change_user("nobody", lambda user: user) is None
    assert await store.user("nobody") is None


async def test_no_change_is_lost_to_another_at_the_same_time(opener: Opener) -> None:
    """Two programs count the same user up."""
    stores = [opener(), opener()]
    await add(stores[0], "Anna")
    await asyncio.gather(
        *(
            store.change_user("Anna", lambda user: replace(user, generation=user.generation + 1))
            for store in stores * 4
        )
    )
    found = await stores[1].user("Anna")
    assert found is not None
    assert found.generation == 8
    for store in stores:
        await store.close()


async def test_a_change_that_fails_changes_nothing(store: AccountStore) -> None:
    """The error is its caller's, and the store goes on."""
    made = await add(store, "Anna")

    def fail(_: User) -> User:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.change_user("Anna", fail)
    assert await store.users() == made


async def test_tokens_are_read_as_they_were_made_the_oldest_first(store: AccountStore) -> None:
    """Those of the same moment by their ids; any text may be a label."""
    tokens = [
        a_token("b" * 12, created_at=5),
        a_token("a" * 12, created_at=7, label="für Müller · 日本"),
        a_token("c" * 12, created_at=7),
    ]
    for token in reversed(tokens):
        await store.add_token(token)
    assert await store.tokens() == tokens
    assert await store.token("a" * 12) == tokens[1]
    assert await store.token("d" * 12) is None


async def test_the_id_of_a_token_is_given_once(store: AccountStore) -> None:
    """The second is refused, and the first stays."""
    await store.add_token(a_token())
    with pytest.raises(StorageError):
        await store.add_token(replace(a_token(), digest=b"\x01" * 32, label="another"))
    assert await store.tokens() == [a_token()]


async def test_a_token_is_revoked_once(store: AccountStore) -> None:
    """The first time counts; one that is not there is not made by it."""
    await store.add_token(a_token())
    assert await store.revoke_token(a_token().id, 5_000)
    assert not await store.revoke_token(a_token().id, 6_000)
    assert not await store.revoke_token("nobody's", 5_000)
    assert await store.tokens() == [replace(a_token(), revoked_at=5_000)]
    assert await store.token("nobody's") is None


async def test_a_session_is_there_until_it_is_ended(store: AccountStore) -> None:
    """Ending it twice, or one that never was, does nothing; others stay."""
    one, other = a_session(b"\x00" * 32, generation=3), a_session(b"\xff" * 32)
    await store.add_session(one)
    await store.add_session(other)
    assert await store.session(one.digest) == one
    await store.end_session(one.digest)
    await store.end_session(one.digest)
    assert await store.session(one.digest) is None
    assert await store.session(other.digest) == other


async def test_purging_keeps_what_has_not_expired(store: AccountStore) -> None:
    """Up to its last millisecond."""
    await store.add_session(a_session(life_ms=60_000))
    await store.purge_sessions(60_999)
    assert await store.session(a_session().digest) == a_session(life_ms=60_000)


async def test_what_has_expired_goes(opener: Opener) -> None:
    """By purging, or by itself."""
    store = opener()
    short = a_session(life_ms=1_000)
    await store.add_session(short)
    async with asyncio.timeout(30):
        while await store.session(short.digest) is not None:
            await store.purge_sessions(2_000)
            await asyncio.sleep(0.1)
    await store.close()


async def test_what_was_written_is_there_after_the_store_was_closed(opener: Opener) -> None:
    """Users, tokens and sessions; and ids go on."""
    store = opener()
    await add(store, "Anna")
    await store.add_token(a_token())
    await store.add_session(a_session())
    await store.close()
    again = opener()
    assert [user.name for user in await again.users()] == ["Anna"]
    assert await again.tokens() == [a_token()]
    assert await again.session(a_session().digest) == a_session()
    (mia,) = await add(again, "Mia")
    assert mia is not None
    assert mia.id == 2
    await again.close()
