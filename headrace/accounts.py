"""`headrace user` and `headrace token`: who may do what, beside a running server too.

A password is asked for at the terminal or read from standard input, never taken from the command line, which
other users of the machine can see. There is none by default: the first administrator is made like everybody.
What a command says for people goes to standard error where its standard output is for programs.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import structlog

from headrace.calling import config_option, reporting_errors
from headrace.config import Config, load_config
from headrace.errors import ConfigError
from orders.accounts.base import Token, User
from orders.accounts.factory import open_accounts
from orders.accounts.managing import AccountManager
from orders.accounts.passwords import Passwords
from orders.accounts.rules import check_name, check_roles
from orders.permissions import ROLES
from storage.clock import now_ms

T = TypeVar("T")

_MOST_BYTES: Final = 4_096
"""Of a password; characters are counted later."""

_QUIET: Final = structlog.wrap_logger(
    None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
)
"""A person who changes accounts here sees what happens."""

_name = click.argument("name")
_roles = click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    metavar="ROLE",
    help=f"What the user may do; can be given several times: {', '.join(ROLES)}.",
)
_password_stdin = click.option(
    "--password-stdin", is_flag=True, help="Read the password from the first line of standard input."
)


@click.group()
def user() -> None:
    """Users: who may log in, and what they may do."""


@user.command("add")
@config_option
@_name
@_roles
@click.option("--no-password", is_flag=True, help="For a program: only tokens work.")
@_password_stdin
@reporting_errors
def user_add(
    config_path: Path | None,
    name: str,
    roles: tuple[str, ...],
    no_password: bool,  # noqa: FBT001  # click passes flags so
    password_stdin: bool,  # noqa: FBT001
) -> None:
    """Make a user NAME; the password is asked for."""
    if no_password and password_stdin:
        raise ConfigError("--no-password and --password-stdin: one of them")
    config = load_config(config_path)
    check_name(name)
    check_roles(roles)
    password = None if no_password else _password(from_stdin=password_stdin)
    made = _run(config, lambda accounts: accounts.add_user(name, password, roles))
    click.echo(f"{made.name}: user {made.id}, {', '.join(made.roles)}")


@user.command("password")
@config_option
@_name
@_password_stdin
@reporting_errors
def user_password(config_path: Path | None, name: str, password_stdin: bool) -> None:  # noqa: FBT001
    """Give NAME another password; all logins of the user end."""
    config = load_config(config_path)
    password = _password(from_stdin=password_stdin)
    _run(config, lambda accounts: accounts.set_password(name, password))
    click.echo(f"{name}: the password is changed, all logins have ended")


@user.command("roles")
@config_option
@_name
@_roles
@reporting_errors
def user_roles(config_path: Path | None, name: str, roles: tuple[str, ...]) -> None:
    """Give NAME these roles in place of the present ones."""
    changed = _run(load_config(config_path), lambda accounts: accounts.set_roles(name, roles))
    click.echo(f"{name}: {', '.join(changed.roles)}")


@user.command("deactivate")
@config_option
@_name
@reporting_errors
def user_deactivate(config_path: Path | None, name: str) -> None:
    """Let NAME do nothing any more; logins end, tokens rest."""
    _run(load_config(config_path), lambda accounts: accounts.deactivate(name))
    click.echo(f"{name}: inactive, all logins have ended")


@user.command("activate")
@config_option
@_name
@reporting_errors
def user_activate(config_path: Path | None, name: str) -> None:
    """Let NAME log in again, and the user's tokens work."""
    _run(load_config(config_path), lambda accounts: accounts.activate(name))
    click.echo(f"{name}: active")


@user.command("list")
@config_option
@reporting_errors
def user_list(config_path: Path | None) -> None:
    """Show all users."""
    for found in _run(load_config(config_path), lambda accounts: accounts.users()):
        click.echo(_user_line(found))


@click.group()
def token() -> None:
    """Tokens: what programs show instead of a password."""


@token.command("create")
@config_option
@click.argument("user")
@click.option("--label", required=True, help="What it is for.")
@click.option("--days", required=True, type=int, help="For how long it works: 1 to 3650.")
@reporting_errors
def token_create(config_path: Path | None, user: str, label: str, days: int) -> None:
    """Make a token in the name of USER and print it, once."""
    text, made = _run(load_config(config_path), lambda accounts: accounts.create_token(user, label, days))
    click.echo(
        f"token {made.id} of {made.user}, until {_day(made.expires_at)}; it can't be shown again", err=True
    )
    click.echo(text)


@token.command("revoke")
@config_option
@click.argument("id_", metavar="ID")
@reporting_errors
def token_revoke(config_path: Path | None, id_: str) -> None:
    """Make the token ID worth nothing at once."""
    revoked = _run(load_config(config_path), lambda accounts: accounts.revoke_token(id_))
    click.echo(f"{id_}: revoked" if revoked else f"{id_}: was revoked before")


@token.command("list")
@config_option
@reporting_errors
def token_list(config_path: Path | None) -> None:
    """Show all tokens by their ids, the oldest first."""
    now = now_ms()
    for found in _run(load_config(config_path), lambda accounts: accounts.tokens()):
        click.echo(_token_line(found, now))


def _run(config: Config, do: Callable[[AccountManager], Coroutine[Any, Any, T]]) -> T:
    """What it gives, on the configured store."""

    async def run() -> T:
        store = open_accounts(config.storage, config.accounts)
        passwords = Passwords()
        try:
            return await do(AccountManager(store, passwords, log=_QUIET))
        finally:
            await passwords.close()
            await store.close()

    return asyncio.run(run())


def _password(*, from_stdin: bool) -> str:
    """Asked for twice without an echo, or the first line."""
    if from_stdin:
        return _first_line()
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask for the password at; --password-stdin reads it")
    return click.prompt("Password", hide_input=True, confirmation_prompt="Once more", err=True)


def _first_line() -> str:
    line = sys.stdin.buffer.readline(_MOST_BYTES)
    try:
        return line.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError("the password on standard input is not UTF-8") from None


def _user_line(user: User) -> str:
    login = "password" if user.password_hash is not None else "tokens only"
    state = "active" if user.active else "inactive"
    return f"{user.id}  {user.name}  {', '.join(user.roles)}  {state}  {login}  since {_day(user.created_at)}"


def _token_line(token: Token, now: int) -> str:
    state = "works" if token.expires_at > now else "expired"
    if token.revoked_at is not None:
        state = f"revoked {_day(token.revoked_at)}"
    days = f"{_day(token.created_at)} to {_day(token.expires_at)}"
    return f"{token.id}  {token.user}  {days}  {state}  {token.label}"


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()
