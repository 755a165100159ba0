"""Hashing passwords beside the loop, with Argon2id.

The parameters are those that RFC 9106 (4) names for machines with less memory (64 MiB, three passes, four
lanes), the default of argon2-cffi. One look at a password takes a fifth of a second of a processor and
64 MiB, so two threads do it, with a lower priority than all else, a bounded number of callers wait for them,
and the rest is refused. A name that nobody has is looked at like any other, against a digest that no
password has.
"""

import asyncio
import base64
import os
import sys
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

from argon2 import Parameters, PasswordHasher
from argon2.exceptions import VerifyMismatchError
from argon2.profiles import RFC_9106_LOW_MEMORY

from orders.accounts.errors import TooManyLoginsError
from orders.accounts.rules import LONGEST

T = TypeVar("T")

_THREADS: Final = 2
_WAITING: Final = 16
_NICER: Final = 10
_NICEST: Final = 19


class Passwords:
    """Two threads that hash.

    Raises:
        TooManyLoginsError: every call, while `waiting` of them wait already.
    """

    def __init__(self, parameters: Parameters = RFC_9106_LOW_MEMORY, *, waiting: int = _WAITING) -> None:
        self._hasher = PasswordHasher.from_parameters(parameters)
        self._nobodys = nobodys_hash(parameters)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="passwords", initializer=_step_back)
        self._places = threading.BoundedSemaphore(_THREADS + waiting)

    async def hash(self, password: str) -> str:
        """What to keep of it: parameters, a salt of chance and the digest, in one text."""
        return await self._run(lambda: self._hasher.hash(_normal(password)))

    async def verify(self, hash_: str | None, password: str) -> bool:
        """Whether this is the password of the hash; without one never, after the same work."""
        if len(password) > LONGEST:
            hash_, password = None, ""
        return await self._run(lambda: self._verify(hash_ or self._nobodys, _normal(password)))

    def is_outdated(self, hash_: str) -> bool:
        """Whether it was made with other parameters than hashes are made with now."""
        return self._hasher.check_needs_rehash(hash_)

    async def close(self) -> None:
        """Let go of the threads; who still waits is answered first."""
        await asyncio.to_thread(self._pool.shutdown)

    def _verify(self, hash_: str, password: bytes) -> bool:
        try:
            return self._hasher.verify(hash_, password)
        except VerifyMismatchError:
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if not self._places.acquire(blocking=False):
            raise TooManyLoginsError("too many passwords are waiting to be looked at; try again in a moment")
        future = self._pool.submit(work)
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)


def nobodys_hash(parameters: Parameters) -> str:
    """A hash that takes as long as any with these parameters, and that no password has: it is chance."""
    salt, digest = (_base64(os.urandom(size)) for size in (parameters.salt_len, parameters.hash_len))
    costs = f"m={parameters.memory_cost},t={parameters.time_cost},p={parameters.parallelism}"
    return f"$argon2{parameters.type.name.lower()}$v={parameters.version}${costs}${salt}${digest}"


def _normal(password: str) -> bytes:
    """The same bytes however a keyboard composes a letter (NIST SP 800-63B-4, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).rstrip(b"=").decode("ascii")


def _step_back() -> None:
    """Let everything else go first; on Linux a thread has a priority of its own, and its lanes inherit it."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):  # where that is forbidden, logins work all the same
            nice = os.getpriority(os.PRIO_PROCESS, thread) + _NICER
            os.setpriority(os.PRIO_PROCESS, thread, min(nice, _NICEST))
