"""Hashing: as RFC 9106 says, beside the loop, in a bounded number, and the same work for nobody's name."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.profiles import RFC_9106_LOW_MEMORY

from orders.accounts.errors import TooManyLoginsError
from orders.accounts.passwords import Passwords, nobodys_hash
from tests.faults.waiting import wait_until
from tests.orders.accounts.acting import CHEAP, PASSWORD, WRONG, Gate


@pytest.fixture
async def passwords() -> AsyncIterator[Passwords]:
    """Cheap ones, of which three may wait."""
    made = Passwords(CHEAP, waiting=3)
    yield made
    await made.close()


async def test_passwords_are_hashed_as_the_rfc_says() -> None:
    """Argon2id, 64 MiB, three passes, four lanes, 128 bits of salt and 256 of digest."""
    passwords = Passwords()
    hash_ = await passwords.hash(PASSWORD)
    assert hash_.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert extract_parameters(hash_) == RFC_9106_LOW_MEMORY
    assert PASSWORD not in hash_
    assert await passwords.verify(hash_, PASSWORD)
    assert not await passwords.verify(hash_, WRONG)
    await passwords.close()


async def test_two_hashes_of_a_password_differ(passwords: Passwords) -> None:
    """Each has a salt of its own."""
    one, other = await passwords.hash(PASSWORD), await passwords.hash(PASSWORD)
    assert one != other
    assert await passwords.verify(other, PASSWORD)


async def test_a_password_is_the_same_on_every_keyboard(passwords: Passwords) -> None:
    """Whether a letter comes composed or not."""
    hash_ = await passwords.hash("zw\u00f6lf Boxk\u00e4mpfer")
    assert await passwords.verify(hash_, "zwo\u0308lf Boxka\u0308mpfer")
    assert not await passwords.verify(hash_, "zwolf Boxkampfer")


@pytest.mark.parametrize("password", ["", "\ud800", "\x00", "x" * 256, "x" * 257, "x" * 10_000_000])
async def test_any_text_may_be_tried(passwords: Passwords, password: str) -> None:
    """What is too long is not hashed, and nothing is an error."""
    hash_ = await passwords.hash("x" * 256)
    assert await passwords.verify(hash_, password) is (password == "x" * 256)
    assert not await passwords.verify(None, password)


def test_nobodys_hash_takes_the_same_work_as_any() -> None:
    """It has the same parameters, and no two are the same."""
    for parameters in (CHEAP, RFC_9106_LOW_MEMORY):
        assert extract_parameters(nobodys_hash(parameters)) == parameters
        assert nobodys_hash(parameters) != nobodys_hash(parameters)


async def test_every_name_and_password_costs_one_verification(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same parameters, whether there is a hash or not, whether the password is too long or not."""
    seen: list[object] = []
    verify = PasswordHasher.verify

    def spied(hasher: PasswordHasher, hash_: str, password: bytes) -> bool:
        seen.append(extract_parameters(hash_))
        return verify(hasher, hash_, password)

    hash_ = await passwords.hash(PASSWORD)
    monkeypatch.setattr(PasswordHasher, "verify", spied)
    for kept, password in ((hash_, PASSWORD), (hash_, WRONG), (hash_, "x" * 999), (None, WRONG)):
        await passwords.verify(kept, password)
    assert seen == [CHEAP] * 4


async def test_what_was_hashed_otherwise_is_outdated(passwords: Passwords) -> None:
    """So that it can be hashed anew while the password is known."""
    stronger = Passwords(replace(CHEAP, time_cost=2))
    hash_ = await passwords.hash(PASSWORD)
    assert not passwords.is_outdated(hash_)
    assert stronger.is_outdated(hash_)
    assert await stronger.verify(hash_, PASSWORD)
    await stronger.close()


async def test_two_are_looked_at_three_wait_and_the_sixth_is_refused(
    passwords: Passwords, gate: Gate
) -> None:
    """The loop goes on meanwhile, the two step back behind everything else, and places come free again."""
    waiting = [asyncio.ensure_future(passwords.verify(None, WRONG)) for _ in range(5)]
    await asyncio.to_thread(wait_until, lambda: gate.arrived == 2, "two are looked at")
    with pytest.raises(TooManyLoginsError) as error:
        await passwords.verify(None, WRONG)
    assert error.value.retriable
    with pytest.raises(TooManyLoginsError):
        await passwords.hash(PASSWORD)
    assert gate.arrived == 2
    assert gate.niceness == {min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)}
    gate.opened.set()
    assert await asyncio.gather(*waiting) == [True] * 5
    assert await passwords.verify(None, WRONG)


async def test_who_gives_up_waiting_frees_the_place(passwords: Passwords, gate: Gate) -> None:
    """A caller that is gone is not looked at."""
    waiting = [asyncio.ensure_future(passwords.verify(None, WRONG)) for _ in range(5)]
    await asyncio.to_thread(wait_until, lambda: gate.arrived == 2, "two are looked at")
    waiting[4].cancel()
    await asyncio.wait([waiting[4]])
    waiting[4] = asyncio.ensure_future(passwords.verify(None, WRONG))
    await asyncio.sleep(0)
    gate.opened.set()
    assert await asyncio.gather(*waiting) == [True] * 5
    assert gate.arrived == 5
