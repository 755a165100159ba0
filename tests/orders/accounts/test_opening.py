"""Where accounts are kept: files for their owner alone, named where they are not ours."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from orders.accounts.factory import open_accounts
from orders.settings import AccountSettings
from storage.cassandra.connect import Connected
from storage.cassandra.tables import use
from storage.errors import SchemaError, StoreUnavailableError
from storage.settings import CassandraSettings, StorageSettings
from storage.sqlite.writer import SqliteTableWriter
from tests.orders.accounts.stores import cassandra as made
from tests.support.cassandra import Cassandra

_LOADED = """import sys, orders.accounts.factory, orders.accounts.managing, orders.accounts.security
sys.exit("cassandra" in sys.modules)"""


async def test_the_files_belong_to_their_owner_alone(tmp_path: Path) -> None:
    """The folder is made; the file and those beside it may be read by nobody else."""
    path = tmp_path / "data" / "accounts.db"
    store = open_accounts(StorageSettings(), AccountSettings(path=str(path)))
    assert await store.users() == []
    files = list(path.parent.iterdir())
    assert path in files
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    await store.close()


async def test_another_file_of_ours_is_refused(tmp_path: Path) -> None:
    """The telemetry's tables are no accounts; the key is named and nothing is touched."""
    path = tmp_path / "headrace.db"
    SqliteTableWriter(path).close()
    before = path.read_bytes()
    store = open_accounts(StorageSettings(), AccountSettings(path=str(path)))
    with pytest.raises(SchemaError, match=r"accounts\.path"):
        await store.add_user("Anna", None, ("customer",), 1)
    await store.close()
    assert path.read_bytes() == before


def test_the_embedded_database_needs_no_driver_of_the_other() -> None:
    """Looked at in a process of its own."""
    assert subprocess.run([sys.executable, "-c", _LOADED], check=False).returncode == 0


@pytest.mark.cassandra
async def test_a_keyspace_without_tables_says_what_makes_them(cassandra: Cassandra) -> None:
    """Nobody guesses how the telemetry's keyspace is to be replicated."""
    settings = CassandraSettings(
        contact_points=tuple(cassandra.contact_points), port=cassandra.port, keyspace=cassandra.keyspace()
    )
    store = open_accounts(StorageSettings(backend="cassandra", cassandra=settings), AccountSettings())
    with pytest.raises(StoreUnavailableError, match="headrace db init"):
        await store.users()
    await store.close()


@pytest.mark.cassandra
async def test_accounts_of_another_version_are_left_alone(cassandra: Cassandra) -> None:
    """As the embedded file's are."""
    settings = CassandraSettings(
        contact_points=tuple(cassandra.contact_points), port=cassandra.port, keyspace=cassandra.keyspace()
    )
    opener = made(settings)
    connected = use(Connected(settings))
    connected.execute("INSERT INTO headrace (key, value) VALUES ('accounts_version', '2')")
    connected.close()
    store = opener()
    with pytest.raises(SchemaError, match="version 2 of the tables of accounts"):
        await store.users()
    await store.close()
