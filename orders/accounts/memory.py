"""The reference: accounts in dictionaries. Nothing outlives the process."""

from collections.abc import Callable

from msgspec.structs import replace

from orders.accounts.base import Session, Token, User
from storage.errors import StorageError


class MemoryAccountStore:
    """An `AccountStore` in memory."""

    def __init__(self) -> None:
        self._users: dict[str, User] = {}
        self._tokens: dict[str, Token] = {}
        self._sessions: dict[bytes, Session] = {}

    async def add_user(
        self, name: str, password_hash: str | None, roles: tuple[str, ...], created_at: int
    ) -> User | None:
        """A new active user; see `AccountStore`."""
        if name in self._users:
            return None
        user = User(
            id=len(self._users) + 1,
            name=name,
            password_hash=password_hash,
            roles=roles,
            active=True,
            generation=0,
            created_at=created_at,
        )
        self._users[name] = user
        return user

    async def user(self, name: str) -> User | None:
        """By its name; see `AccountStore`."""
        return self._users.get(name)

    async def users(self) -> list[User]:
        """All of them, by id; see `AccountStore`."""
        return sorted(self._users.values(), key=lambda user: user.id)

    async def change_user(self, name: str, change: Callable[[User], User]) -> User | None:
        """Change it; see `AccountStore`."""
        if name not in self._users:
            return None
        self._users[name] = change(self._users[name])
        return self._users[name]

    async def add_token(self, token: Token) -> None:
        """A new token; see `AccountStore`."""
        if token.id in self._tokens:
            raise StorageError(f"the id {token.id} is taken")
        self._tokens[token.id] = token

    async def token(self, id_: str) -> Token | None:
        """By its id; see `AccountStore`."""
        return self._tokens.get(id_)

    async def tokens(self) -> list[Token]:
        """All of them, the oldest first; see `AccountStore`."""
        return sorted(self._tokens.values(), key=lambda token: (token.created_at, token.id))

    async def revoke_token(self, id_: str, now: int) -> bool:
        """From now on it is worth nothing; see `AccountStore`."""
        token = self._tokens.get(id_)
        if token is None or token.revoked_at is not None:
            return False
        self._tokens[id_] = replace(token, revoked_at=now)
        return True

    async def add_session(self, session: Session) -> None:
        """A new login; see `AccountStore`."""
        self._sessions[session.digest] = session

    async def session(self, digest: bytes) -> Session | None:
        """By its digest; see `AccountStore`."""
        return self._sessions.get(digest)

    async def end_session(self, digest: bytes) -> None:
        """It is worth nothing any more; see `AccountStore`."""
        self._sessions.pop(digest, None)

    async def purge_sessions(self, now: int) -> None:
        """Forget what has expired; see `AccountStore`."""
        for digest in [row.digest for row in self._sessions.values() if row.expires_at <= now]:
            del self._sessions[digest]

    async def close(self) -> None:
        """Nothing to let go of."""
