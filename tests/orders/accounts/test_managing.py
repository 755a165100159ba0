"""What an administrator does to users and tokens: what is refused, what is kept, what is said."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from orders.accounts.errors import NameTakenError, NoSuchTokenError, NoSuchUserError, RuleError
from orders.accounts.managing import AccountManager
from orders.accounts.memory import MemoryAccountStore
from tests.orders.accounts.acting import DAY_MS, PASSWORD, Clock, Gateway, Recorded


@pytest.fixture
async def manager(clock: Clock, log: Recorded) -> AsyncIterator[AccountManager]:
    """With a user Anna."""
    gateway = Gateway(MemoryAccountStore(), clock, log)
    await gateway.add()
    log.said.clear()
    yield gateway.manager
    await gateway.close()


async def test_a_user_is_made_with_the_time_and_a_digest(manager: AccountManager, clock: Clock) -> None:
    """Never the password itself; without one there is no digest."""
    person = await manager.add_user("Mia", PASSWORD, ("operator", "customer"))
    program = await manager.add_user("program", None, ("customer",))
    assert (person.id, person.roles, person.created_at) == (2, ("customer", "operator"), clock.now)
    assert PASSWORD not in str(person.password_hash)
    assert program.password_hash is None
    assert [user.name for user in await manager.users()] == ["Anna", "Mia", "program"]


@pytest.mark.parametrize(
    ("name", "password", "roles", "error"),
    [
        ("Anna", PASSWORD, ("customer",), NameTakenError),
        ("no name", PASSWORD, ("customer",), RuleError),
        ("everybody", PASSWORD, ("customer",), RuleError),
        ("Mia", "short", ("customer",), RuleError),
        ("Mia", "", ("customer",), RuleError),
        ("Mia", PASSWORD, ("wizard",), RuleError),
        ("Mia", PASSWORD, (), RuleError),
    ],
)
async def test_who_can_not_be_made_is_not(
    manager: AccountManager,
    log: Recorded,
    *,
    name: str,
    password: str,
    roles: tuple[str, ...],
    error: type[Exception],
) -> None:
    """Nothing changes, and nothing is said."""
    before = await manager.users()
    with pytest.raises(error):
        await manager.add_user(name, password, roles)
    assert await manager.users() == before
    assert log.said == []


@pytest.mark.parametrize(
    "change",
    [
        lambda manager: manager.set_password("nobody", PASSWORD),
        lambda manager: manager.set_roles("nobody", ("customer",)),
        lambda manager: manager.deactivate("nobody"),
        lambda manager: manager.activate("nobody"),
        lambda manager: manager.create_token("nobody", "a program", 1),
    ],
)
async def test_nobody_is_changed_who_is_not_there(
    manager: AccountManager, log: Recorded, change: Callable[[AccountManager], Awaitable[object]]
) -> None:
    """The error names the user and the command that shows all."""
    with pytest.raises(NoSuchUserError, match=r"'nobody'.*headrace user list"):
        await change(manager)
    assert log.said == []


async def test_a_change_that_breaks_a_rule_changes_nothing(manager: AccountManager) -> None:
    """Neither password nor roles."""
    before = await manager.users()
    with pytest.raises(RuleError):
        await manager.set_password("Anna", "short")
    with pytest.raises(RuleError):
        await manager.set_roles("Anna", ("customer", "wizard"))
    with pytest.raises(RuleError):
        await manager.create_token("Anna", "a program", 9_999)
    assert await manager.users() == before
    assert await manager.tokens() == []


async def test_what_was_done_is_said_without_any_secret(manager: AccountManager, log: Recorded) -> None:
    """With whom it was done to."""
    await manager.add_user("Mia", PASSWORD, ("customer", "operator"))
    await manager.set_password("Mia", "another horse in the rain")
    await manager.set_roles("Mia", ("manager",))
    await manager.deactivate("Mia")
    await manager.activate("Mia")
    text, token = await manager.create_token("Mia", "a program", 1)
    await manager.revoke_token(token.id)
    assert log.said == [
        ("info", "User added", {"account": "Mia", "roles": "customer operator"}),
        ("info", "Password changed", {"account": "Mia"}),
        ("info", "Roles changed", {"account": "Mia", "roles": "manager"}),
        ("info", "User deactivated", {"account": "Mia"}),
        ("info", "User activated", {"account": "Mia"}),
        ("info", "Token created", {"account": "Mia", "token": token.id}),
        ("info", "Token revoked", {"token": token.id}),
    ]
    for secret in (PASSWORD, "another horse", text[-64:]):
        assert secret not in repr(log.said)


async def test_a_token_is_listed_by_what_is_not_secret(manager: AccountManager, clock: Clock) -> None:
    """The oldest first, with its days; revoked ones stay."""
    _, one = await manager.create_token("Anna", "one", 1)
    clock.now += 1
    text, other = await manager.create_token("Anna", "other", 3_650)
    assert await manager.revoke_token(one.id)
    assert not await manager.revoke_token(one.id)
    listed = await manager.tokens()
    assert [(token.label, token.revoked_at) for token in listed] == [("one", clock.now), ("other", None)]
    assert other.expires_at == clock.now + 3_650 * DAY_MS
    assert text[-64:] not in repr(listed)


@pytest.mark.parametrize("id_", ["", "0" * 12, "x" * 100_000])
async def test_a_token_that_is_not_there_can_not_be_revoked(manager: AccountManager, id_: str) -> None:
    """The message is short whatever was asked for."""
    with pytest.raises(NoSuchTokenError, match="headrace token list") as error:
        await manager.revoke_token(id_)
    assert len(str(error.value)) < 200
