"""What changes while a password is looked at."""

from collections.abc import Awaitable, Callable
from dataclasses import replace as other_parameters

import pytest
from msgspec.structs import replace

from orders.accounts.memory import MemoryAccountStore
from orders.accounts.passwords import Passwords
from tests.orders.accounts.acting import ADDRESS, CHEAP, PASSWORD, Clock, Gateway, Recorded, refused


class Meanwhile(Passwords):
    """Something happens while a password is looked at."""

    happens: Callable[[], Awaitable[object]] | None = None

    async def verify(self, hash_: str | None, password: str) -> bool:
        """Look at it, and only then let it happen."""
        fits = await super().verify(hash_, password)
        happens, self.happens = self.happens, None
        if happens is not None:
            await happens()
        return fits


@pytest.mark.parametrize("what", ["password", "deactivate", "deactivate and activate"])
async def test_a_login_that_races_with_the_end_of_all_logins_is_worth_nothing(
    accounts: MemoryAccountStore, clock: Clock, log: Recorded, what: str
) -> None:
    """The old password was looked at already, and its session comes after."""
    passwords = Meanwhile(CHEAP)
    gateway = Gateway(accounts, clock, log, passwords)
    await gateway.add()

    async def end_all() -> None:
        if what == "password":
            await gateway.manager.set_password("Anna", "another horse in the rain")
        else:
            await gateway.manager.deactivate("Anna")
        if what == "deactivate and activate":
            await gateway.manager.activate("Anna")

    passwords.happens = end_all
    secret = await gateway.login()
    assert await gateway.security.of_session(secret) is None
    await gateway.close()


async def test_a_password_is_hashed_anew_where_that_is_done_otherwise_now(
    accounts: MemoryAccountStore, clock: Clock, log: Recorded
) -> None:
    """At a login; sessions go on, and the second login has nothing to do."""
    old = Gateway(accounts, clock, log)
    await old.add()
    secret = await old.login()
    new = Gateway(accounts, clock, log, Passwords(other_parameters(CHEAP, time_cost=2)))
    before = await accounts.user("Anna")
    await new.login()
    after = await accounts.user("Anna")
    assert before is not None
    assert after is not None
    assert "t=1" in str(before.password_hash)
    assert "t=2" in str(after.password_hash)
    assert after == replace(before, password_hash=after.password_hash)
    assert await new.security.of_session(secret)
    await new.login()
    assert await accounts.user("Anna") == after
    await old.close()
    await new.close()


async def test_hashing_anew_never_brings_an_old_password_back(
    accounts: MemoryAccountStore, clock: Clock, log: Recorded
) -> None:
    """Where it was changed since it was looked at."""
    old = Gateway(accounts, clock, log)
    await old.add()
    passwords = Meanwhile(other_parameters(CHEAP, time_cost=2))
    new = Gateway(accounts, clock, log, passwords)
    passwords.happens = lambda: new.manager.set_password("Anna", "another horse in the rain")
    await new.login()
    await refused(new, "Anna", PASSWORD)
    assert await new.security.login("Anna", "another horse in the rain", ADDRESS)
    await old.close()
    await new.close()
