"""A store and the reference are driven by the same random life, and must tell the same story."""

import asyncio
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from msgspec.structs import replace

from orders.accounts.base import AccountStore, Session, Token, User
from orders.accounts.memory import MemoryAccountStore
from storage.errors import StorageError
from storage.settings import CassandraSettings
from tests.orders.accounts.stores import Opener, cassandra, sqlite

T = TypeVar("T")

NAMES = ("Anna", "anna", "a@b-c.d_e", "9" * 64)
IDS = tuple(letter * 12 for letter in "abc")
names = st.sampled_from(NAMES)
ids = st.sampled_from(IDS)
digests = st.sampled_from([bytes([number]) * 32 for number in range(4)])
hashes = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
roles = st.lists(st.sampled_from(["customer", "operator", 'a "role", odd']), unique=True).map(tuple)
times = st.integers(0, 4_000_000_000_000)
lives = st.integers(3_600_000, 36_000_000)


class Lives(RuleBasedStateMachine):
    """The same calls to both stores; after each all that can be read must agree."""

    @abstractmethod
    def open_accounts(self, folder: Path) -> Opener:
        """The store that is held against the reference, empty."""

    @initialize()
    def begin(self) -> None:
        """Start with nothing."""
        self.folder = Path(tempfile.mkdtemp())
        self.opener = self.open_accounts(self.folder)
        self.model: AccountStore = MemoryAccountStore()
        self.store = self.opener()
        self.runner = asyncio.Runner()

    @rule(name=names, password_hash=hashes, roles=roles, at=times)
    def add_user(self, name: str, password_hash: str | None, roles: tuple[str, ...], at: int) -> None:
        """Once for each name."""
        self._both(lambda store: store.add_user(name, password_hash, roles, at))

    @rule(name=names, password_hash=hashes, roles=roles, active=st.booleans(), more=st.integers(0, 2))
    def change_user(
        self, name: str, password_hash: str | None, roles: tuple[str, ...], *, active: bool, more: int
    ) -> None:
        """From what it is to something else."""

        def change(user: User) -> User:
            generation = user.generation + more
            return replace(
                user, password_hash=password_hash, roles=roles, active=active, generation=generation
            )

        self._both(lambda store: store.change_user(name, change))

    @rule(
        id_=ids, name=names, label=st.text(st.characters(codec="utf-8", exclude_characters="\x00")), at=times
    )
    def add_token(self, id_: str, name: str, label: str, at: int) -> None:
        """Once for each id."""
        token = Token(
            id=id_, user=name, label=label, digest=at.to_bytes(32), created_at=at, expires_at=at + 1_000
        )
        self._both(lambda store: store.add_token(token))

    @rule(id_=ids, at=times)
    def revoke_token(self, id_: str, at: int) -> None:
        """Once for each id."""
        self._both(lambda store: store.revoke_token(id_, at))

    @rule(digest=digests, name=names, generation=st.integers(0, 9), at=times, life_ms=lives)
    def add_session(self, digest: bytes, name: str, generation: int, at: int, life_ms: int) -> None:
        """A digest is chance: nobody adds one that is there."""
        session = Session(
            digest=digest, user=name, generation=generation, created_at=at, expires_at=at + life_ms
        )
        if self._run(self.model.session(digest)) is None:
            self._both(lambda store: store.add_session(session))

    @rule(digest=digests)
    def end_session(self, digest: bytes) -> None:
        """Whether it is there or not."""
        self._both(lambda store: store.end_session(digest))

    @rule()
    def reopen(self) -> None:
        """A new process finds what the one before it left."""
        self._run(self.store.close())
        self.store = self.opener()

    @invariant()
    def all_agree(self) -> None:
        """Everything that can be read is the same."""
        self._both(_everything)

    def teardown(self) -> None:
        """Let go of everything."""
        self._run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def _both(self, call: Callable[[AccountStore], Coroutine[object, object, T]]) -> None:
        assert self._outcome(call(self.model)) == self._outcome(call(self.store))

    def _outcome(self, call: Coroutine[object, object, T]) -> T | str:
        try:
            return self._run(call)
        except StorageError:
            return "refused"

    def _run(self, call: Coroutine[object, object, T]) -> T:
        return self.runner.run(call)


async def _everything(store: AccountStore) -> list[object]:
    found: list[object] = [*await store.users(), *await store.tokens()]
    found += [await store.user(name) for name in NAMES]
    found += [await store.token(id_) for id_ in IDS]
    return found + [await store.session(bytes([number]) * 32) for number in range(4)]


class SqliteLives(Lives):
    """The embedded database, which is purged by hand."""

    def open_accounts(self, folder: Path) -> Opener:
        """An empty file."""
        return sqlite(folder)

    @rule(now=times)
    def purge(self, now: int) -> None:
        """What has expired by then goes."""
        self._both(lambda store: store.purge_sessions(now))


class CassandraLives(Lives):
    """A cluster, on which sessions go by themselves."""

    settings: CassandraSettings

    def open_accounts(self, _folder: Path) -> Opener:
        """Empty tables."""
        return cassandra(self.settings)


TestSqliteLives = SqliteLives.TestCase
TestSqliteLives.settings = settings(max_examples=40, stateful_step_count=25)


@pytest.mark.cassandra
@pytest.mark.timeout(600)
def test_cassandra_lives(account_keyspace: CassandraSettings) -> None:
    """The same on a cluster; fewer lives, as each step asks it a dozen times."""
    CassandraLives.settings = account_keyspace
    run_state_machine_as_test(
        CassandraLives,
        settings=settings(
            max_examples=6, stateful_step_count=15, phases=[Phase.explicit, Phase.reuse, Phase.generate]
        ),
    )
