"""What may be a name, a password, a role, a token; and that no rule asks for more than it says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.accounts.errors import RuleError
from orders.accounts.rules import (
    LONGEST,
    SHORTEST,
    check_name,
    check_password,
    check_roles,
    check_token,
    is_name,
)
from orders.permissions import ROLES, Permission, permissions_of

EVERY_LETTER = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.@"


@given(st.text(EVERY_LETTER, min_size=1, max_size=64))
def test_a_name_is_of_the_letters_that_are_safe_everywhere(name: str) -> None:
    """In a log's message, on a terminal, in a page."""
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", "x" * 65, "Anna\n", "Anna Maria", "Ännchen", "٣", "a%s", "a/b", "a\x00b", "{name}", "<b>"]
)
def test_anything_else_is_no_name(name: str) -> None:
    """Also what Python calls a letter or a digit."""
    assert not is_name(name)
    with pytest.raises(RuleError, match="1 to 64"):
        check_name(name)


def test_nobody_is_called_like_everybody() -> None:
    """That stands for the callers of a server without logins."""
    with pytest.raises(RuleError, match="everybody"):
        check_name("everybody")


@pytest.mark.parametrize(
    "password",
    ["only lower case", "x" * 11 + "y", "     spaces     ", "жжжжжжжжжжжж", "🐎" * 12, "z" * 256, "-" * 12],
)
def test_length_is_all_that_a_password_needs(password: str) -> None:
    """No capital, digit or sign is asked for, and all characters are allowed."""
    check_password(password, "Anna")


@pytest.mark.parametrize(
    ("password", "name", "why"),
    [
        ("", "Anna", f"{SHORTEST} to {LONGEST} characters, this one has 0"),
        ("x" * 11, "Anna", "this one has 11"),
        ("x" * 257, "Anna", "this one has 257"),
        ("🐎" * 6, "Anna", "this one has 6"),
        ("Factory_model_customer", "Factory_model_customer", "name"),
        ("factory model CUSTOMER", "Factory_model_customer", "name"),
        ("@@@@@@@@@@@@", "@@@@@@@@@@@@", "name"),
        ("password1234", "Anna", "tries first"),
        ("PassWord1234", "Anna", "tries first"),
        ("correcthorsebatterystaple", "Anna", "tries first"),
    ],
)
def test_a_password_that_is_guessed_first_is_refused(password: str, name: str, why: str) -> None:
    """The message says why and does not show it."""
    with pytest.raises(RuleError, match=why) as error:
        check_password(password, name)
    assert not password or password not in str(error.value)


def test_roles_come_once_and_in_order() -> None:
    """However they were given."""
    assert check_roles(("operator", "customer", "operator")) == ("customer", "operator")


@pytest.mark.parametrize("roles", [(), ("customer", "wizard"), ("Customer",), ("x" * 10_000,)])
def test_an_unknown_role_is_told_the_known_ones(roles: tuple[str, ...]) -> None:
    """And none at all is no user's."""
    with pytest.raises(RuleError, match=", ".join(ROLES)) as error:
        check_roles(roles)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("label", "days", "why"),
    [
        ("", 1, "label"),
        ("  ", 1, "label"),
        ("x" * 101, 1, "label"),
        ("a\x1b[2J", 1, "label"),
        ("fine", 0, "days"),
        ("fine", 3_651, "days"),
        ("fine", -1, "days"),
    ],
)
def test_a_token_has_a_label_and_an_end(label: str, days: int, why: str) -> None:
    """Neither endless nor unnamed."""
    with pytest.raises(RuleError, match=why):
        check_token(label, days)


def test_permissions_add_up_and_lost_roles_allow_nothing() -> None:
    """The administrator may do everything that there is."""
    assert permissions_of(("administrator",)) == frozenset(Permission)
    assert permissions_of(("customer", "operator", "no such role")) == {
        Permission.ORDERS_SUBMIT,
        Permission.TELEMETRY_READ,
    }
    assert permissions_of(()) == frozenset()
