"""Accounts in Cassandra.

All users lie in one partition, as a plant has hundreds and no millions, with the highest id in a static
column: one conditional batch takes the next id and the name together, so ids have no gap and names are
unique whoever else adds users. A user is changed by compare-and-set on `version`. Tokens lie in one partition
as well, sessions each in one of its own, and expire by themselves.

A conditional statement whose answer is lost may have been applied. Then it is asked again, and what is found
tells: a user by `creation`, which is chance, a token by its digest.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID, uuid4

from cassandra import OperationTimedOut, WriteTimeout

from orders.accounts.base import Session, Token, User
from storage.cassandra.asking import Asker
from storage.cassandra.parts import Part, use_part
from storage.cassandra.schema import Table, columns_of
from storage.cassandra.times import to_ms, to_ms_or_none
from storage.errors import StorageError, StoreSlowError, StoreUnavailableError
from storage.settings import CassandraSettings

ACCOUNTS: Final = Part(
    "accounts",
    1,
    {
        "users": Table(
            columns_of(
                "shard int, last_id int static, name text, id int, password_hash text,"
                " roles frozen<list<text>>, active boolean, generation int, created_at timestamp,"
                " creation uuid, version int"
            ),
            "shard, name",
        ),
        "tokens": Table(
            columns_of(
                "shard int, id text, user text, label text, digest blob, created_at timestamp,"
                " expires_at timestamp, revoked_at timestamp"
            ),
            "shard, id",
        ),
        "sessions": Table(
            columns_of("digest blob, user text, generation int, created_at timestamp, expires_at timestamp"),
            "digest",
        ),
    },
)

_LAST_ID: Final = "SELECT last_id FROM users WHERE shard = 0 LIMIT 1"
_ADD_USER: Final = """BEGIN BATCH
    UPDATE users SET last_id = ? WHERE shard = 0 IF last_id = ?;
    INSERT INTO users
        (shard, name, id, password_hash, roles, active, generation, created_at, creation, version)
        VALUES (0, ?, ?, ?, ?, true, 0, ?, ?, 0) IF NOT EXISTS;
    APPLY BATCH"""
_USERS: Final = """SELECT id, name, password_hash, roles, active, generation, created_at, creation, version
    FROM users WHERE shard = 0"""
_USER: Final = f"{_USERS} AND name = ?"
_CHANGE_USER: Final = """UPDATE users
    SET password_hash = ?, roles = ?, active = ?, generation = ?, version = ?
    WHERE shard = 0 AND name = ? IF version = ?"""

_ADD_TOKEN: Final = """INSERT INTO tokens (shard, id, user, label, digest, created_at, expires_at)
    VALUES (0, ?, ?, ?, ?, ?, ?) IF NOT EXISTS"""  # noqa: S105  # a statement
_TOKENS: Final = """SELECT id, user, label, digest, created_at, expires_at, revoked_at
    FROM tokens WHERE shard = 0"""
_TOKEN: Final = f"{_TOKENS} AND id = ?"
_REVOKE: Final = """UPDATE tokens SET revoked_at = ? WHERE shard = 0 AND id = ?
    IF digest != null AND revoked_at = null"""

_ADD_SESSION: Final = """INSERT INTO sessions (digest, user, generation, created_at, expires_at)
    VALUES (?, ?, ?, ?, ?) USING TTL ?"""
_SESSION: Final = "SELECT digest, user, generation, created_at, expires_at FROM sessions WHERE digest = ?"
_END: Final = "DELETE FROM sessions WHERE digest = ?"


class CassandraAccountStore:
    """An `AccountStore` on a cluster, reached at the first call.

    Every call may raise `StoreSlowError` after `deadline_s`, and what connecting may raise.
    """

    def __init__(self, settings: CassandraSettings, *, deadline_s: float = 5.0) -> None:
        self._asker = Asker(settings, lambda connected: use_part(connected, ACCOUNTS), deadline_s=deadline_s)
        self._changing = asyncio.Lock()
        """Who goes through the same process need not fight for a partition."""

    async def add_user(
        self, name: str, password_hash: str | None, roles: tuple[str, ...], created_at: int
    ) -> User | None:
        """A new active user; see `AccountStore`."""
        user = User(
            id=0,
            name=name,
            password_hash=password_hash,
            roles=roles,
            active=True,
            generation=0,
            created_at=created_at,
        )
        return await self._asker.within(self._add_user(user))

    async def user(self, name: str) -> User | None:
        """By its name; see `AccountStore`."""
        rows = await self._asker.within(self._asker.ask(_USER, name))
        return _as_user(rows[0]) if rows else None

    async def users(self) -> list[User]:
        """All of them, by id; see `AccountStore`."""
        rows = await self._asker.within(self._asker.ask(_USERS))
        return sorted(map(_as_user, rows), key=lambda user: user.id)

    async def change_user(self, name: str, change: Callable[[User], User]) -> User | None:
        """Change it; see `AccountStore`."""
        return await self._asker.within(self._change_user(name, change))

    async def add_token(self, token: Token) -> None:
        """A new token; see `AccountStore`."""
        await self._asker.within(self._add_token(token))

    async def token(self, id_: str) -> Token | None:
        """By its id; see `AccountStore`."""
        rows = await self._asker.within(self._asker.ask(_TOKEN, id_))
        return _as_token(rows[0]) if rows else None

    async def tokens(self) -> list[Token]:
        """All of them, the oldest first; see `AccountStore`."""
        rows = await self._asker.within(self._asker.ask(_TOKENS))
        return sorted(map(_as_token, rows), key=lambda token: (token.created_at, token.id))

    async def revoke_token(self, id_: str, now: int) -> bool:
        """From now on it is worth nothing; see `AccountStore`."""
        return await self._asker.within(self._revoke_token(id_, now))

    async def add_session(self, session: Session) -> None:
        """A new login, which goes by itself a moment after it has expired; see `AccountStore`."""
        life_s = (session.expires_at - session.created_at) // 1000 + 1
        row = (session.digest, session.user, session.generation, session.created_at, session.expires_at)
        await self._asker.within(self._asker.ask(_ADD_SESSION, *row, life_s))

    async def session(self, digest: bytes) -> Session | None:
        """By its digest; see `AccountStore`."""
        rows = await self._asker.within(self._asker.ask(_SESSION, digest))
        return _as_session(rows[0]) if rows else None

    async def end_session(self, digest: bytes) -> None:
        """It is worth nothing any more; see `AccountStore`."""
        await self._asker.within(self._asker.ask(_END, digest))

    async def purge_sessions(self, now: int) -> None:
        """Nothing to do: they expire by themselves; see `AccountStore`."""

    async def close(self) -> None:
        """Let go of the cluster."""
        await self._asker.close()

    # What the calls do. Each loop ends at the call's deadline at the latest.

    async def _add_user(self, user: User) -> User | None:
        creation = uuid4()
        async with self._changing:
            while True:
                found = await self._asker.ask(_USER, user.name)
                if found:
                    return _as_user(found[0]) if _creation(found[0]) == creation else None
                await self._try_to_add(user, creation)

    async def _try_to_add(self, user: User, creation: UUID) -> None:
        rows = await self._asker.ask(_LAST_ID)
        last = rows[0][0] if rows else None
        id_ = (last or 0) + 1
        row = (user.name, id_, user.password_hash, user.roles, user.created_at, creation)
        await self._applied(_ADD_USER, id_, last, *row)

    async def _change_user(self, name: str, change: Callable[[User], User]) -> User | None:
        async with self._changing:
            while True:
                found = await self._asker.ask(_USER, name)
                if not found:
                    return None
                user, version = change(_as_user(found[0])), found[0][-1]
                row = (user.password_hash, user.roles, user.active, user.generation)
                if await self._applied(_CHANGE_USER, *row, version + 1, name, version):
                    return user

    async def _add_token(self, token: Token) -> None:
        row = (token.id, token.user, token.label, token.digest, token.created_at, token.expires_at)
        while not await self._applied(_ADD_TOKEN, *row):
            found = await self._asker.ask(_TOKEN, token.id)
            if found and _as_token(found[0]).digest == token.digest:
                return
            if found:
                raise StorageError(f"the id {token.id} is taken")

    async def _revoke_token(self, id_: str, now: int) -> bool:
        while (applied := await self._applied(_REVOKE, now, id_)) is None:
            found = await self._asker.ask(_TOKEN, id_)
            if found and _as_token(found[0]).revoked_at == now:
                return True
        return applied

    async def _applied(self, cql: str, *values: object) -> bool | None:
        """Whether a conditional statement was applied; None where nobody knows."""
        try:
            rows = await self._asker.ask(cql, *values)
        except (StoreUnavailableError, StoreSlowError) as error:
            if not isinstance(error.__cause__, WriteTimeout | OperationTimedOut):
                raise
            return None
        return bool(rows[0][0])


def _as_user(row: tuple[Any, ...]) -> User:
    id_, name, password_hash, roles, active, generation, created_at, *_ = row
    return User(
        id=id_,
        name=name,
        password_hash=password_hash,
        roles=tuple(roles),
        active=active,
        generation=generation,
        created_at=to_ms(created_at),
    )


def _creation(row: tuple[Any, ...]) -> object:
    return row[-2]


def _as_token(row: tuple[Any, ...]) -> Token:
    id_, user, label, digest, created_at, expires_at, revoked_at = row
    return Token(
        id=id_,
        user=user,
        label=label,
        digest=digest,
        created_at=to_ms(created_at),
        expires_at=to_ms(expires_at),
        revoked_at=to_ms_or_none(revoked_at),
    )


def _as_session(row: tuple[Any, ...]) -> Session:
    digest, user, generation, created_at, expires_at = row
    return Session(
        digest=digest,
        user=user,
        generation=generation,
        created_at=to_ms(created_at),
        expires_at=to_ms(expires_at),
    )
