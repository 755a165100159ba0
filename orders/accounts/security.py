"""SecurityController: who is it that calls, and what may they do.

A login looks at the password whoever it claims to be, so its time does not say which names there are, and
counts as failed until it is known to be good. What came of it is said in the log; the caller hears only that
it failed. A session and a token are worth what their user is worth at the moment: roles, activity and
generation are read at every call.

A wrong password is always said: the throttle lets through no more of them than a log can take. What costs
nothing to refuse, such as a token that is none, is said sparingly.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from msgspec.structs import replace

from orders.accounts.base import AccountStore, Session, User
from orders.accounts.credentials import csrf_of, digest_of, id_of, is_same, is_secret, new_secret
from orders.accounts.errors import (
    INVALID_CREDENTIALS,
    LockedOutError,
    NotAuthenticatedError,
    TooManyLoginsError,
)
from orders.accounts.passwords import Passwords
from orders.accounts.principal import Principal, principal_of
from orders.accounts.rules import is_name
from orders.accounts.throttle import Throttle
from orders.settings import AccountSettings
from orders.sparing import Sparing
from orders.speaking import Speaker
from storage.clock import now_ms
from storage.errors import StorageError

_HOUR_MS: Final = 3_600_000


class _Refusal(NamedTuple):
    """Why a session or a token is worth nothing, and whose it would be."""

    reason: str
    name: str = ""


class SecurityController:
    """Logins, sessions and tokens over a store, which stays the caller's to close.

    Every call may raise `storage.errors.StorageError`.
    """

    def __init__(
        self,
        store: AccountStore,
        settings: AccountSettings,
        *,
        log: Speaker,
        passwords: Passwords | None = None,
        now_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._store = store
        self._session_ms = int(settings.session_hours * _HOUR_MS)
        self._log = log
        self._passwords = passwords or Passwords()
        self._now_ms = now_ms
        self._throttle = Throttle(settings.failures, int(settings.lockout_s * 1000))
        self._sparing = Sparing()
        self._next_purge = 0

    async def login(self, name: str, password: str, address: str) -> tuple[str, Principal]:
        """The secret of a new session, and who it belongs to.

        Raises:
            NotAuthenticatedError: the name, the password or both are wrong, or the user is inactive.
            LockedOutError: the name or the address failed too often.
            TooManyLoginsError: too many wait; this attempt does not count.
        """
        claimed = name if is_name(name) else ""
        self._admit(claimed, address)
        user = await self._user_of(claimed, password, address)
        self._throttle.succeeded(claimed, address)
        await self._refresh(user, password)
        secret = await self._begin_session(user)
        self._log.info(f"{user.name.replace('_', ' ')} login completed successfully", user_id=user.name)
        return secret, principal_of(user, "session", csrf_of(secret))

    async def of_session(self, secret: str) -> Principal | None:
        """Who the session belongs to; None where it is worth nothing."""
        user = self._or_none(await self._session_user(secret))
        return None if user is None else principal_of(user, "session", csrf_of(secret))

    async def of_token(self, text: str) -> Principal | None:
        """In whose name a program with this token calls; None where it is worth nothing."""
        user = self._or_none(await self._token_user(text))
        return None if user is None else principal_of(user, "token")

    async def logout(self, secret: str) -> None:
        """End the session; nothing happens where it has ended."""
        if is_secret(secret):
            await self._store.end_session(digest_of(secret))

    async def close(self) -> None:
        """Let go of the threads."""
        await self._passwords.close()

    def _admit(self, claimed: str, address: str) -> None:
        """Count the attempt, if one may be made."""
        wait_ms = self._throttle.attempt(claimed, address, self._now_ms())
        if wait_ms:
            if self._sparing.lets(self._now_ms()):
                self._say_refused("Too many attempts", claimed, address)
            raise LockedOutError(wait_ms / 1000)

    async def _user_of(self, claimed: str, password: str, address: str) -> User:
        """The active user of this name and password."""
        try:
            user = await self._store.user(claimed) if claimed else None
            fits = await self._passwords.verify(None if user is None else user.password_hash, password)
        except (StorageError, TooManyLoginsError) as error:
            self._throttle.withdrawn(claimed, address)
            if isinstance(error, TooManyLoginsError) and self._sparing.lets(self._now_ms()):
                self._say_refused("Too many logins", claimed, address)
            raise
        if user is not None and fits and user.active:
            return user
        self._say_refused("Inactive user" if fits else INVALID_CREDENTIALS, claimed, address)
        raise NotAuthenticatedError(INVALID_CREDENTIALS)

    async def _refresh(self, user: User, password: str) -> None:
        """Hash the password anew where that is done otherwise now, unless it was changed meanwhile."""
        outdated = user.password_hash
        if outdated is None or not self._passwords.is_outdated(outdated):
            return
        try:
            fresh = await self._passwords.hash(password)
        except TooManyLoginsError:
            return  # the next login does it
        await self._store.change_user(
            user.name, lambda now: replace(now, password_hash=fresh) if now.password_hash == outdated else now
        )

    async def _begin_session(self, user: User) -> str:
        now = self._now_ms()
        if now >= self._next_purge:
            await self._store.purge_sessions(now)
            self._next_purge = now + _HOUR_MS
        secret = new_secret()
        session = Session(
            digest=digest_of(secret),
            user=user.name,
            generation=user.generation,
            created_at=now,
            expires_at=now + self._session_ms,
        )
        await self._store.add_session(session)
        return secret

    async def _session_user(self, secret: str) -> User | _Refusal:
        session = await self._store.session(digest_of(secret)) if is_secret(secret) else None
        if session is None:
            return _Refusal("Invalid session")
        user = await self._store.user(session.user)
        if session.expires_at <= self._now_ms():
            return _Refusal("Session expired", session.user)
        if user is None or not user.active or session.generation != user.generation:
            return _Refusal("Session ended", session.user)
        return user

    async def _token_user(self, text: str) -> User | _Refusal:
        id_ = id_of(text)
        token = None if id_ is None else await self._store.token(id_)
        if token is None or not is_same(token.digest, digest_of(text)):
            return _Refusal("Invalid token")
        user = await self._store.user(token.user)
        if token.revoked_at is not None:
            return _Refusal("Token revoked", token.user)
        if token.expires_at <= self._now_ms():
            return _Refusal("Token expired", token.user)
        if user is None or not user.active:
            return _Refusal("Inactive user", token.user)
        return user

    def _or_none(self, found: User | _Refusal) -> User | None:
        """The user; None where it was refused, which is said."""
        if isinstance(found, User):
            return found
        if self._sparing.lets(self._now_ms()):
            self._say_refused(found.reason, found.name)
        return None

    def _say_refused(self, reason: str, name: str, address: str = "") -> None:
        """`name` is of somebody who could be called so, or empty."""
        info = {"reason": reason, **({"address": address} if address else {})}
        if count := self._sparing.left_out():
            info["left_out"] = str(count)
        self._log.warning("Connection attempt failed", user_id=name, **info)
