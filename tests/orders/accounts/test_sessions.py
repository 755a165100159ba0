"""What sessions and tokens are worth, for how long, and what ends them."""

from orders.accounts.base import AccountStore
from orders.accounts.memory import MemoryAccountStore
from orders.accounts.principal import Principal, open_principal
from orders.permissions import Permission
from tests.orders.accounts.acting import (
    ADDRESS,
    DAY_MS,
    HOUR_MS,
    PASSWORD,
    WRONG,
    Clock,
    Gateway,
    Recorded,
    refused,
)
from tests.orders.accounts.stores import Opener


async def test_a_session_has_a_secret_of_its_own_that_is_kept_nowhere(
    gateway: Gateway, accounts: MemoryAccountStore
) -> None:
    """256 bits; what proves a request is derived from it, and is not it."""
    secrets = [await gateway.login() for _ in range(3)]
    callers = [await gateway.security.of_session(secret) for secret in secrets]
    proofs = {caller.csrf for caller in callers if caller is not None}
    assert {len(bytes.fromhex(secret)) for secret in secrets} == {32}
    assert len(set(secrets)) == len(proofs) == 3
    assert not proofs & set(secrets)
    kept = repr(vars(accounts))
    assert not [secret for secret in secrets if secret in kept or str(bytes.fromhex(secret)) in kept]


async def test_a_session_ends_with_its_time(gateway: Gateway, log: Recorded) -> None:
    """To the millisecond, whatever was done with it meanwhile; then the row goes at some login."""
    secret = await gateway.login()
    gateway.clock.now += 12 * HOUR_MS - 1
    assert await gateway.security.of_session(secret)
    gateway.clock.now += 1
    assert await gateway.security.of_session(secret) is None
    assert log.refusals() == [("Session expired", "Anna")]
    await gateway.login()
    assert await gateway.security.of_session(secret) is None
    assert log.refusals()[-1] == ("Invalid session", "")


async def test_a_logout_ends_one_session(gateway: Gateway) -> None:
    """Twice is as good as once, and a text that is no secret ends none."""
    one, other = await gateway.login(), await gateway.login()
    for secret in (one, one, "", "\ud800", "x" * 100_000):
        await gateway.security.logout(secret)
    assert await gateway.security.of_session(one) is None
    assert await gateway.security.of_session(other)


async def test_another_password_ends_all_sessions(gateway: Gateway, log: Recorded) -> None:
    """Of this user alone; the new one works, the old one does not."""
    await gateway.add("Mia")
    secrets, mias = [await gateway.login(), await gateway.login()], await gateway.login("Mia")
    await gateway.manager.set_password("Anna", "another horse in the rain")
    assert [await gateway.security.of_session(secret) for secret in secrets] == [None, None]
    assert log.refusals() == [("Session ended", "Anna")] * 2
    assert await gateway.security.of_session(mias)
    await refused(gateway, "Anna", PASSWORD)
    assert await gateway.security.login("Anna", "another horse in the rain", ADDRESS)


async def test_an_inactive_user_can_do_nothing(gateway: Gateway, log: Recorded) -> None:
    """No session, no token, no login; active again, tokens work and old sessions do not."""
    secret = await gateway.login()
    token, _ = await gateway.manager.create_token("Anna", "a program", 1)
    await gateway.manager.deactivate("Anna")
    assert await gateway.security.of_session(secret) is None
    assert await gateway.security.of_token(token) is None
    assert await refused(gateway, "Anna", PASSWORD) == "Invalid credentials"
    assert log.refusals() == [
        ("Session ended", "Anna"),
        ("Inactive user", "Anna"),
        ("Inactive user", "Anna"),
    ]
    await gateway.manager.activate("Anna")
    assert await gateway.security.of_session(secret) is None
    assert await gateway.security.of_token(token)
    assert await gateway.login()


async def test_other_roles_count_from_the_next_call_on(gateway: Gateway) -> None:
    """For sessions and tokens that there are already."""
    secret = await gateway.login()
    token, _ = await gateway.manager.create_token("Anna", "a program", 1)
    await gateway.manager.set_roles("Anna", ("manager",))
    for caller in (await gateway.security.of_session(secret), await gateway.security.of_token(token)):
        assert caller is not None
        assert caller.may(Permission.ORDERS_READ_ALL)
        assert not caller.may(Permission.ORDERS_SUBMIT)


async def test_a_token_works_until_its_last_day_is_over(gateway: Gateway, log: Recorded) -> None:
    """In the name of its user; the text is kept nowhere."""
    text, token = await gateway.manager.create_token("Anna", "a program", 30)
    assert text.startswith(f"hrt_{token.id}_")
    assert len(token.id) == 12
    assert text not in repr(token)
    caller = await gateway.security.of_token(text)
    assert caller == Principal(
        user_id=1,
        name="Anna",
        roles=("customer", "operator"),
        permissions=frozenset({Permission.ORDERS_SUBMIT, Permission.TELEMETRY_READ}),
        via="token",
    )
    gateway.clock.now += 30 * DAY_MS - 1
    assert await gateway.security.of_token(text) == caller
    gateway.clock.now += 1
    assert await gateway.security.of_token(text) is None
    assert log.refusals() == [("Token expired", "Anna")]


async def test_a_revoked_token_is_worth_nothing_at_once(gateway: Gateway, log: Recorded) -> None:
    """Others of the user go on."""
    one, token = await gateway.manager.create_token("Anna", "one", 1)
    other, _ = await gateway.manager.create_token("Anna", "other", 1)
    await gateway.manager.revoke_token(token.id)
    assert await gateway.security.of_token(one) is None
    assert log.refusals() == [("Token revoked", "Anna")]
    assert await gateway.security.of_token(other)


async def test_a_token_with_any_other_secret_is_none(gateway: Gateway, log: Recorded) -> None:
    """Whatever is wrong with it; nobody is named, as nobody was proved."""
    text, token = await gateway.manager.create_token("Anna", "a program", 1)
    for wrong in (
        f"hrt_{token.id}_{'0' * 64}",
        f"hrt_{'0' * 12}_{text[-64:]}",
        text[:-1],
        f"{text}\n",
        f" {text}",
        text.upper(),
        text[-64:],
        "",
        "\ud800",
        "hrt_",
        "x" * 100_000,
    ):
        assert await gateway.security.of_token(wrong) is None
    assert set(log.refusals()) == {("Invalid token", "")}
    assert await gateway.security.of_token(text)


async def test_a_session_is_no_token_and_a_token_no_session(gateway: Gateway) -> None:
    """Each counts only where it belongs."""
    secret = await gateway.login()
    text, _ = await gateway.manager.create_token("Anna", "a program", 1)
    assert await gateway.security.of_token(secret) is None
    assert await gateway.security.of_session(text) is None


async def test_refusals_that_cost_nothing_do_not_fill_the_log(gateway: Gateway, log: Recorded) -> None:
    """Sixty a minute; the next one counts what was left out, and a wrong password is always said."""
    for _ in range(100):
        await gateway.security.of_token("none")
    assert len(log.said) == 60
    await refused(gateway, "Anna", WRONG)
    assert log.said[-1][2] == {
        "user_id": "Anna",
        "reason": "Invalid credentials",
        "address": ADDRESS,
        "left_out": "40",
    }
    gateway.clock.now += 60_000
    await gateway.security.of_session("none")
    assert log.said[-1][2] == {"user_id": "", "reason": "Invalid session"}


def test_a_server_without_logins_lets_everybody_do_everything() -> None:
    """As a user whom nobody else can be."""
    caller = open_principal()
    assert (caller.user_id, caller.name, caller.via, caller.csrf) == (1, "everybody", "open", None)
    assert all(caller.may(permission) for permission in Permission)


async def test_it_works_over_every_store(opener: Opener, clock: Clock, log: Recorded) -> None:
    """Login, session, token, and the end of both; another process sees it at once."""
    stores: list[AccountStore] = [opener(), opener()]
    here, there = (Gateway(store, clock, log) for store in stores)
    await here.add()
    secret = await here.login()
    text, token = await here.manager.create_token("Anna", "a program", 1)
    assert await there.security.of_session(secret)
    assert await there.security.of_token(text)
    await here.manager.revoke_token(token.id)
    await here.manager.set_password("Anna", "another horse in the rain")
    assert await there.security.of_session(secret) is None
    assert await there.security.of_token(text) is None
    assert log.refusals() == [("Session ended", "Anna"), ("Token revoked", "Anna")]
    for side, store in zip((here, there), stores, strict=True):
        await side.close()
        await store.close()
