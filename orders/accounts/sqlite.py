"""Accounts in a SQLite file of their own.

Ids have no gap because users are never deleted: SQLite gives a new row the number above the highest, and all
changes, of other programs too, come one after the other. `roles` is a JSON array.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from orders.accounts.base import Session, Token, User
from storage.sqlite.changing import Database
from storage.sqlite.schema import Tables

ACCOUNTS: Final = Tables(
    application_id=int.from_bytes(b"Hacc"),
    version=1,
    statements=(
        """CREATE TABLE users (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            password_hash TEXT,
            roles TEXT NOT NULL,
            active INTEGER NOT NULL,
            generation INTEGER NOT NULL,
            created_at INTEGER NOT NULL
        ) STRICT""",
        """CREATE TABLE tokens (
            id TEXT NOT NULL PRIMARY KEY,
            user TEXT NOT NULL,
            label TEXT NOT NULL,
            digest BLOB NOT NULL,
            created_at INTEGER NOT NULL,
            expires_at INTEGER NOT NULL,
            revoked_at INTEGER
        ) WITHOUT ROWID, STRICT""",
        """CREATE TABLE sessions (
            digest BLOB NOT NULL PRIMARY KEY,
            user TEXT NOT NULL,
            generation INTEGER NOT NULL,
            created_at INTEGER NOT NULL,
            expires_at INTEGER NOT NULL
        ) WITHOUT ROWID, STRICT""",
        "CREATE INDEX sessions_by_end ON sessions (expires_at)",
    ),
    setting="accounts.path",
)

_USER: Final = "SELECT id, name, password_hash, roles, active, generation, created_at FROM users"
_ADD_USER: Final = """INSERT INTO users (name, password_hash, roles, active, generation, created_at)
    VALUES (?, ?, ?, 1, 0, ?)"""
_CHANGE_USER: Final = """UPDATE users SET password_hash = ?, roles = ?, active = ?, generation = ?
    WHERE id = ?"""
_TOKEN: Final = "SELECT id, user, label, digest, created_at, expires_at, revoked_at FROM tokens"  # noqa: S105  # a statement
_ADD_TOKEN: Final = "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S105
_REVOKE: Final = "UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"
_SESSION: Final = "SELECT digest, user, generation, created_at, expires_at FROM sessions WHERE digest = ?"
_ADD_SESSION: Final = "INSERT INTO sessions VALUES (?, ?, ?, ?, ?)"


class SqliteAccountStore:
    """An `AccountStore` in a file; made at the first use, for its owner alone."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, ACCOUNTS)

    async def add_user(
        self, name: str, password_hash: str | None, roles: tuple[str, ...], created_at: int
    ) -> User | None:
        """A new active user; see `AccountStore`."""

        def add(connection: apsw.Connection) -> User | None:
            if _user(connection, name) is not None:
                return None
            connection.execute(_ADD_USER, (name, password_hash, _encoded(roles), created_at))
            return _user(connection, name)

        return await self._database.change(add)

    async def user(self, name: str) -> User | None:
        """By its name; see `AccountStore`."""
        return await self._database.read(lambda connection: _user(connection, name))

    async def users(self) -> list[User]:
        """All of them, by id; see `AccountStore`."""
        return [_as_user(row) for row in await self._rows(f"{_USER} ORDER BY id")]

    async def change_user(self, name: str, change: Callable[[User], User]) -> User | None:
        """Change it; see `AccountStore`."""

        def make(connection: apsw.Connection) -> User | None:
            user = _user(connection, name)
            if user is None:
                return None
            user = change(user)
            values = (user.password_hash, _encoded(user.roles), user.active, user.generation, user.id)
            connection.execute(_CHANGE_USER, values)
            return user

        return await self._database.change(make)

    async def add_token(self, token: Token) -> None:
        """A new token; see `AccountStore`."""
        await self._change(_ADD_TOKEN, *msgspec.structs.astuple(token))

    async def token(self, id_: str) -> Token | None:
        """By its id; see `AccountStore`."""
        rows = await self._rows(f"{_TOKEN} WHERE id = ?", id_)
        return _as_token(rows[0]) if rows else None

    async def tokens(self) -> list[Token]:
        """All of them, the oldest first; see `AccountStore`."""
        return [_as_token(row) for row in await self._rows(f"{_TOKEN} ORDER BY created_at, id")]

    async def revoke_token(self, id_: str, now: int) -> bool:
        """From now on it is worth nothing; see `AccountStore`."""
        return await self._change(_REVOKE, now, id_) > 0

    async def add_session(self, session: Session) -> None:
        """A new login; see `AccountStore`."""
        await self._change(_ADD_SESSION, *msgspec.structs.astuple(session))

    async def session(self, digest: bytes) -> Session | None:
        """By its digest; see `AccountStore`."""
        rows = await self._rows(_SESSION, digest)
        return Session(**dict(zip(Session.__struct_fields__, rows[0], strict=True))) if rows else None

    async def end_session(self, digest: bytes) -> None:
        """It is worth nothing any more; see `AccountStore`."""
        await self._change("DELETE FROM sessions WHERE digest = ?", digest)

    async def purge_sessions(self, now: int) -> None:
        """Forget what has expired; see `AccountStore`."""
        await self._change("DELETE FROM sessions WHERE expires_at <= ?", now)

    async def close(self) -> None:
        """Let go of the file."""
        await self._database.close()

    async def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return await self._database.read(lambda connection: connection.execute(sql, values).fetchall())

    async def _change(self, sql: str, *values: object) -> int:
        """How many rows one statement has changed."""

        def make(connection: apsw.Connection) -> int:
            connection.execute(sql, values)
            return connection.changes()

        return await self._database.change(make)


def _user(connection: apsw.Connection, name: str) -> User | None:
    row = connection.execute(f"{_USER} WHERE name = ?", (name,)).fetchone()
    return None if row is None else _as_user(row)


def _as_user(row: tuple[Any, ...]) -> User:
    id_, name, password_hash, roles, active, generation, created_at = row
    return User(
        id=id_,
        name=name,
        password_hash=password_hash,
        roles=msgspec.json.decode(roles, type=tuple[str, ...]),
        active=bool(active),
        generation=generation,
        created_at=created_at,
    )


def _as_token(row: tuple[Any, ...]) -> Token:
    return Token(**dict(zip(Token.__struct_fields__, row, strict=True)))


def _encoded(roles: tuple[str, ...]) -> str:
    return msgspec.json.encode(roles).decode()
