"""The contract of whoever keeps users, tokens and sessions.

Kept are digests only: an argon2 hash of a password, a SHA-256 of a token's or a session's secret, which is
256 bits of chance and needs no slow hash. Times are milliseconds since 1970 UTC.

What ends all logins of a user raises the user's generation. A session belongs to the generation that was
read before the password was looked at, so a login that races with a change of the password is worth nothing
when it is through, and no store has to find a user's sessions.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who can log in, or in whose name a program calls."""

    id: int
    """From 1; what an order names. Given by the store."""

    name: str
    """Such as `Factory_model_customer`; what logs name. 1 to 64 of letters, digits, `_`, `-`, `.` and `@`."""

    password_hash: str | None
    """None: nobody can log in with a password; tokens work."""

    roles: tuple[str, ...]
    active: bool
    """An inactive user can do nothing; rows that name it stay."""

    generation: int
    """How often all logins were ended; 0 at first."""

    created_at: int


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What a program shows instead of a password."""

    id: str
    """Short, public, unique: how it is listed and revoked."""

    user: str
    label: str
    """What it is for."""

    digest: bytes
    """SHA-256 of the whole token."""

    created_at: int
    expires_at: int
    revoked_at: int | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A login of a person."""

    digest: bytes
    """SHA-256 of the secret in the cookie: the key."""

    user: str
    generation: int
    """The user's when the login began; in another one it is worth nothing."""

    created_at: int
    expires_at: int


class AccountStore(Protocol):
    """Users by name, tokens by id, sessions by digest.

    Every call may raise `storage.errors.StorageError`.
    """

    async def add_user(
        self, name: str, password_hash: str | None, roles: tuple[str, ...], created_at: int
    ) -> User | None:
        """A new active user with the next id; None where the name is taken."""
        ...

    async def user(self, name: str) -> User | None:
        """By its name, exactly."""
        ...

    async def users(self) -> list[User]:
        """All of them, by id."""
        ...

    async def change_user(self, name: str, change: Callable[[User], User]) -> User | None:
        """The user as changed, in one step with reading it; None where there is none.

        `change` may be called several times and leaves id, name and created_at as they are.
        """
        ...

    async def add_token(self, token: Token) -> None:
        """A new token.

        Raises:
            StorageError: its id is taken.
        """
        ...

    async def token(self, id_: str) -> Token | None:
        """By its id, also if it is revoked or has expired."""
        ...

    async def tokens(self) -> list[Token]:
        """All of them, by (created_at, id)."""
        ...

    async def revoke_token(self, id_: str, now: int) -> bool:
        """From now on it is worth nothing; False where there is none or it was revoked before."""
        ...

    async def add_session(self, session: Session) -> None:
        """A new login."""
        ...

    async def session(self, digest: bytes) -> Session | None:
        """By its digest; one that has expired or was ended with its user's others may still be there."""
        ...

    async def end_session(self, digest: bytes) -> None:
        """It is worth nothing any more; nothing happens where there is none."""
        ...

    async def purge_sessions(self, now: int) -> None:
        """Forget those that have expired by then; nothing to do where the database does it by itself."""
        ...

    async def close(self) -> None:
        """Let go of the database."""
        ...
