"""A clock and a log for tests of who may do what, and passwords that cost little."""

import os
import threading
from typing import Final, Literal

import pytest
from argon2 import Parameters
from argon2.low_level import Type

from orders.accounts.base import AccountStore
from orders.accounts.errors import NotAuthenticatedError
from orders.accounts.managing import AccountManager
from orders.accounts.passwords import Passwords
from orders.accounts.security import SecurityController
from orders.settings import AccountSettings

CHEAP: Final = Parameters(
    type=Type.ID, version=19, salt_len=16, hash_len=32, time_cost=1, memory_cost=8, parallelism=1
)
PASSWORD: Final = "a horse in the rain"  # noqa: S105  # of nobody
WRONG: Final = "a horse in the snow"
ADDRESS: Final = "192.168.7.20"
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS


class Clock:
    """Milliseconds since 1970, which stand still."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def __call__(self) -> int:
        """What it shows."""
        return self.now


class Recorded:
    """A log that is read by the test."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, dict[str, str]]] = []

    def info(self, message: str, /, *, user_id: str | None = None, **info: object) -> None:
        """Keep it."""
        self._keep("info", message, user_id, info)

    def warning(self, message: str, /, *, user_id: str | None = None, **info: object) -> None:
        """Keep it."""
        self._keep("warning", message, user_id, info)

    def error(self, message: str, /, *, user_id: str | None = None, **info: object) -> None:
        """Keep it."""
        self._keep("error", message, user_id, info)

    def _keep(self, level: str, message: str, user_id: str | None, info: dict[str, object]) -> None:
        whose = {} if user_id is None else {"user_id": user_id}
        self.said.append((level, message, {**whose, **{name: str(value) for name, value in info.items()}}))

    def refusals(self) -> list[tuple[str, str]]:
        """Reason and user of each refusal."""
        return [
            (info["reason"], info["user_id"])
            for level, message, info in self.said
            if (level, message) == ("warning", "Connection attempt failed")
        ]


class Gateway:
    """Both sides over one store: who manages, and who decides."""

    def __init__(
        self, store: AccountStore, clock: Clock, log: Recorded, passwords: Passwords | None = None
    ) -> None:
        self.clock = clock
        self.passwords = passwords or Passwords(CHEAP)
        self.settings = AccountSettings()
        self.manager = AccountManager(store, self.passwords, log=log, now_ms=clock)
        self.security = SecurityController(
            store, self.settings, log=log, passwords=self.passwords, now_ms=clock
        )

    async def add(self, name: str = "Anna", *roles: str) -> None:
        """A user with the usual password; a customer unless it is said otherwise."""
        await self.manager.add_user(name, PASSWORD, roles or ("customer",))

    async def login(self, name: str = "Anna") -> str:
        """The secret of a new session."""
        secret, _ = await self.security.login(name, PASSWORD, ADDRESS)
        return secret

    async def close(self) -> None:
        """Let go of the threads."""
        await self.security.close()


class Gate:
    """Where verifications stop until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.arrived = 0
        self.niceness: set[int] = set()

    def verify(self, _hash: str, _password: bytes) -> Literal[True]:
        """In place of the library's."""
        self.arrived += 1
        self.niceness.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        assert self.opened.wait(60)
        return True


async def refused(gateway: Gateway, name: str, password: str, address: str = ADDRESS) -> str:
    """Try to log in where nobody must; what the caller hears."""
    with pytest.raises(NotAuthenticatedError) as error:
        await gateway.security.login(name, password, address)
    return error.value.reason
