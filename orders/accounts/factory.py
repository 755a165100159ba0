"""The store of accounts that the configuration asks for; see `storage.factory`."""

from pathlib import Path

from orders.accounts.base import AccountStore
from orders.accounts.sqlite import SqliteAccountStore
from orders.settings import AccountSettings
from storage.settings import StorageSettings


def open_accounts(storage: StorageSettings, accounts: AccountSettings) -> AccountStore:
    """The store, which reaches its database at the first call."""
    if storage.backend == "cassandra":
        from orders.accounts.cassandra import CassandraAccountStore  # noqa: PLC0415

        return CassandraAccountStore(storage.cassandra)
    return SqliteAccountStore(Path(accounts.path))
