"""The stores of accounts that must behave alike, each opened any number of times."""

from collections.abc import Callable
from pathlib import Path

from orders.accounts.base import AccountStore, Session, Token
from orders.accounts.cassandra import ACCOUNTS, CassandraAccountStore
from orders.accounts.memory import MemoryAccountStore
from orders.accounts.sqlite import SqliteAccountStore
from storage.cassandra.connect import Connected
from storage.cassandra.parts import use_part
from storage.cassandra.tables import create_tables
from storage.settings import CassandraSettings

Opener = Callable[[], AccountStore]
"""Opens the same accounts again and again."""


def memory(_folder: Path) -> Opener:
    """The reference: one store, which stays."""
    store = MemoryAccountStore()
    return lambda: store


def sqlite(folder: Path) -> Opener:
    """A file."""
    return lambda: SqliteAccountStore(folder / "accounts.db")


def cassandra(settings: CassandraSettings) -> Opener:
    """Tables on a cluster, emptied; with time enough for a cluster that has just been started."""
    connected = Connected(settings)
    create_tables(connected, None)
    use_part(connected, ACCOUNTS)
    for table in ACCOUNTS.tables:
        connected.execute(f"TRUNCATE {table}")
    connected.close()
    return lambda: CassandraAccountStore(settings, deadline_s=30.0)


EMBEDDED: dict[str, Callable[[Path], Opener]] = {"memory": memory, "sqlite": sqlite}


def a_token(id_: str = "0123456789ab", *, created_at: int = 1_000, label: str = "of a program") -> Token:
    """One that works for a second."""
    return Token(
        id=id_,
        user="Anna",
        label=label,
        digest=id_.encode().ljust(32, b"\x00"),
        created_at=created_at,
        expires_at=created_at + 1_000,
    )


def a_session(digest: bytes = b"\xff" * 32, *, generation: int = 0, life_ms: int = 3_600_000) -> Session:
    """One that began at 1 s."""
    return Session(
        digest=digest, user="Anna", generation=generation, created_at=1_000, expires_at=1_000 + life_ms
    )
