"""Making and changing users and tokens: what an administrator does."""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from orders.accounts.base import AccountStore, Token, User
from orders.accounts.credentials import digest_of, new_token
from orders.accounts.errors import NameTakenError, NoSuchTokenError, NoSuchUserError
from orders.accounts.passwords import Passwords
from orders.accounts.rules import check_name, check_password, check_roles, check_token
from orders.speaking import Speaker
from storage.clock import now_ms

_DAY_MS: Final = 86_400_000


class AccountManager:
    """Users and tokens over a store; store and passwords stay the caller's to close.

    Every call may raise `storage.errors.StorageError`, and `TooManyLoginsError` where it takes a password.
    """

    def __init__(
        self,
        store: AccountStore,
        passwords: Passwords,
        *,
        log: Speaker,
        now_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._log = log
        self._now_ms = now_ms

    async def add_user(self, name: str, password: str | None, roles: tuple[str, ...]) -> User:
        """A new user; without a password only tokens work.

        Raises:
            RuleError: name, password or roles are not what they have to be.
            NameTakenError: there is one of this name.
        """
        check_name(name)
        roles = check_roles(roles)
        hash_ = None if password is None else await self._hash(password, name)
        user = await self._store.add_user(name, hash_, roles, self._now_ms())
        if user is None:
            raise NameTakenError(f"there is a user {name} already")
        self._log.info("User added", account=name, roles=" ".join(roles))
        return user

    async def set_password(self, name: str, password: str) -> None:
        """Another password; all logins of the user end.

        Raises:
            RuleError: it can't be one.
            NoSuchUserError: there is no such user.
        """
        hash_ = await self._hash(password, name)
        await self._change(
            name, lambda user: replace(user, password_hash=hash_, generation=user.generation + 1)
        )
        self._log.info("Password changed", account=name)

    async def set_roles(self, name: str, roles: tuple[str, ...]) -> User:
        """Other roles, from the next call of the user on.

        Raises:
            RuleError: one is not known, or there is none.
            NoSuchUserError: there is no such user.
        """
        roles = check_roles(roles)
        user = await self._change(name, lambda user: replace(user, roles=roles))
        self._log.info("Roles changed", account=name, roles=" ".join(roles))
        return user

    async def deactivate(self, name: str) -> None:
        """Let a user do nothing any more; logins end, tokens rest. Raises NoSuchUserError."""
        await self._change(name, lambda user: replace(user, active=False, generation=user.generation + 1))
        self._log.info("User deactivated", account=name)

    async def activate(self, name: str) -> None:
        """Let a user log in again, and the tokens work. Raises NoSuchUserError."""
        await self._change(name, lambda user: replace(user, active=True))
        self._log.info("User activated", account=name)

    async def users(self) -> list[User]:
        """All of them, by id."""
        return await self._store.users()

    async def create_token(self, name: str, label: str, days: int) -> tuple[str, Token]:
        """A token in the name of this user, to be shown once, and what is kept of it.

        Raises:
            RuleError: label or days are not what they have to be.
            NoSuchUserError: there is no such user.
        """
        check_token(label, days)
        if await self._store.user(name) is None:
            raise _no_such(name)
        id_, text = new_token()
        now = self._now_ms()
        token = Token(
            id=id_,
            user=name,
            label=label,
            digest=digest_of(text),
            created_at=now,
            expires_at=now + days * _DAY_MS,
        )
        await self._store.add_token(token)
        self._log.info("Token created", account=name, token=id_)
        return text, token

    async def revoke_token(self, id_: str) -> bool:
        """Make a token worth nothing at once; False where it was revoked before. Raises NoSuchTokenError."""
        if await self._store.token(id_) is None:
            raise NoSuchTokenError(f"there is no token {id_[:64]!r}; `headrace token list` shows all")
        revoked = await self._store.revoke_token(id_, self._now_ms())
        if revoked:
            self._log.info("Token revoked", token=id_)
        return revoked

    async def tokens(self) -> list[Token]:
        """All of them, the oldest first."""
        return await self._store.tokens()

    async def _hash(self, password: str, name: str) -> str:
        check_password(password, name)
        return await self._passwords.hash(password)

    async def _change(self, name: str, change: Callable[[User], User]) -> User:
        user = await self._store.change_user(name, change)
        if user is None:
            raise _no_such(name)
        return user


def _no_such(name: str) -> NoSuchUserError:
    return NoSuchUserError(f"there is no user {name[:64]!r}; `headrace user list` shows all")
