"""Who gets in, who is kept out for how long, and what is said of it."""

import asyncio

import pytest

from orders.accounts.errors import LockedOutError, NotAuthenticatedError, TooManyLoginsError
from orders.accounts.memory import MemoryAccountStore
from orders.accounts.passwords import Passwords
from orders.permissions import Permission
from storage.errors import StoreUnavailableError
from tests.faults.waiting import wait_until
from tests.orders.accounts.acting import (
    ADDRESS,
    CHEAP,
    PASSWORD,
    WRONG,
    Clock,
    Gate,
    Gateway,
    Recorded,
    refused,
)


async def test_the_right_password_begins_a_session(gateway: Gateway) -> None:
    """Who it is, what they may do, and that it is by a session."""
    secret, caller = await gateway.security.login("Anna", PASSWORD, ADDRESS)
    assert (caller.user_id, caller.name, caller.roles, caller.via) == (
        1,
        "Anna",
        ("customer", "operator"),
        "session",
    )
    assert caller.permissions == {Permission.ORDERS_SUBMIT, Permission.TELEMETRY_READ}
    assert caller.may(Permission.ORDERS_SUBMIT)
    assert not caller.may(Permission.LOGS_READ)
    assert await gateway.security.of_session(secret) == caller


async def test_a_login_is_said_with_the_name_in_words(gateway: Gateway, log: Recorded) -> None:
    """The message of the plant that this began with."""
    await gateway.add("Factory_model_customer")
    await gateway.login("Factory_model_customer")
    assert log.said[-1] == (
        "info",
        "Factory model customer login completed successfully",
        {"user_id": "Factory_model_customer"},
    )


@pytest.mark.parametrize(
    ("name", "password", "said"),
    [
        ("Anna", WRONG, "Anna"),
        ("Anna", "", "Anna"),
        ("Anna", "x" * 100_000, "Anna"),
        ("anna", PASSWORD, "anna"),
        ("nobody", PASSWORD, "nobody"),
        ("", PASSWORD, ""),
        ("Anna\n", PASSWORD, ""),
        ("%s {reason} \x1b[2J", PASSWORD, ""),
        ("x" * 100_000, PASSWORD, ""),
        ("\ud800", "\ud800", ""),
    ],
)
async def test_all_that_is_wrong_sounds_the_same(
    gateway: Gateway, log: Recorded, name: str, password: str, said: str
) -> None:
    """To the caller; the log has the name that was claimed, if it can be one, and never the password."""
    assert await refused(gateway, name, password) == "Invalid credentials"
    assert log.said == [
        (
            "warning",
            "Connection attempt failed",
            {"user_id": said, "reason": "Invalid credentials", "address": ADDRESS},
        )
    ]


async def test_every_refusal_takes_the_same_work(
    gateway: Gateway, accounts: MemoryAccountStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One verification, whether the name is anybody's, has a password, is active, or can't be a name."""
    await accounts.add_user("program", None, ("customer",), 1)
    await gateway.add("gone")
    await gateway.manager.deactivate("gone")
    seen: list[str] = []
    verify = Passwords._verify

    def spied(passwords: Passwords, hash_: str, password: bytes) -> bool:
        seen.append(hash_.rpartition("$")[0].rpartition("$")[0])
        return verify(passwords, hash_, password)

    monkeypatch.setattr(Passwords, "_verify", spied)
    for name in ("Anna", "nobody", "program", "gone", "no name"):
        await refused(gateway, name, WRONG)
    assert seen == ["$argon2id$v=19$m=8,t=1,p=1"] * 5


async def test_wrong_passwords_lock_a_name_even_for_the_right_one(gateway: Gateway, log: Recorded) -> None:
    """For the lockout's time; then one more is looked at, and a wrong one begins it anew."""
    for _ in range(gateway.settings.failures):
        await refused(gateway, "Anna", WRONG)
    with pytest.raises(LockedOutError) as error:
        await gateway.login()
    assert error.value.retry_after_s == gateway.settings.lockout_s
    assert log.refusals()[-1] == ("Too many attempts", "Anna")
    gateway.clock.now += 299_999
    with pytest.raises(LockedOutError) as error:
        await gateway.login()
    assert error.value.retry_after_s == 0.001
    gateway.clock.now += 1
    await refused(gateway, "Anna", WRONG)
    with pytest.raises(LockedOutError):
        await gateway.login()
    gateway.clock.now += 300_000
    assert await gateway.login()


async def test_a_name_that_nobody_has_is_locked_like_any_other(gateway: Gateway) -> None:
    """So a lock does not say which names there are."""
    for _ in range(gateway.settings.failures):
        await refused(gateway, "nobody", WRONG)
    with pytest.raises(LockedOutError):
        await gateway.security.login("nobody", WRONG, ADDRESS)


async def test_many_wrong_ones_at_once_gain_nothing(gateway: Gateway) -> None:
    """As many are looked at as one after the other."""
    tries = [gateway.security.login("Anna", WRONG, f"10.0.0.{number}") for number in range(30)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert (
        sum(isinstance(outcome, NotAuthenticatedError) for outcome in outcomes) == gateway.settings.failures
    )
    assert sum(isinstance(outcome, LockedOutError) for outcome in outcomes) == 25


async def test_an_address_that_tries_many_names_is_locked(gateway: Gateway) -> None:
    """Others are not; sessions that there are go on."""
    secret = await gateway.login()
    for number in range(10 * gateway.settings.failures):
        await refused(gateway, f"user{number}", WRONG)
    with pytest.raises(LockedOutError):
        await gateway.login()
    assert await gateway.security.login("Anna", PASSWORD, "192.168.7.21")
    assert await gateway.security.of_session(secret)


async def test_more_logins_than_may_wait_are_turned_away_and_not_counted(
    accounts: MemoryAccountStore, clock: Clock, log: Recorded, gate: Gate
) -> None:
    """They can come again at once; the log says so."""
    gateway = Gateway(accounts, clock, log, Passwords(CHEAP, waiting=0))
    await gateway.add()
    under_way = [asyncio.ensure_future(gateway.login()) for _ in range(2)]
    await asyncio.to_thread(wait_until, lambda: gate.arrived == 2, "two are looked at")
    for _ in range(10):
        with pytest.raises(TooManyLoginsError):
            await gateway.login()
    assert log.refusals() == [("Too many logins", "Anna")] * 10
    gate.opened.set()
    assert len(await asyncio.gather(*under_way)) == 2
    assert await gateway.login()
    await gateway.close()


async def test_a_store_that_is_away_is_nobodys_wrong_password(
    gateway: Gateway, accounts: MemoryAccountStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempts do not count."""

    async def away(_: str) -> None:
        raise StoreUnavailableError("away")

    with monkeypatch.context() as broken:
        broken.setattr(accounts, "user", away)
        for _ in range(10):
            with pytest.raises(StoreUnavailableError):
                await gateway.login()
    assert await gateway.login()
