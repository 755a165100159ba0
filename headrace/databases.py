"""The databases of all purposes.

The embedded one has a file for each, so that none waits for another's commits; in a cluster they share a
keyspace.
"""

from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from headrace.config import Config
from mes.amp import store as mes
from orders.accounts import sqlite as accounts
from orders.book import sqlite as book
from orders.logs import sqlite as log
from storage.factory import open_writer
from storage.settings import StorageSettings
from storage.sqlite.schema import READINGS, Tables

SUPPLIERS: Final = "mes"
"""The supplier's own: an SQLite file whatever the gateway stores in."""


class File(NamedTuple):
    """Where it is, and what it holds."""

    path: Path
    tables: Tables


def files(config: Config) -> dict[str, File]:
    """By what they are called on the command line."""
    return {
        "tables": File(Path(config.storage.sqlite.path), READINGS),
        "accounts": File(Path(config.accounts.path), accounts.ACCOUNTS),
        "orders": File(Path(config.orders.path), book.TABLES),
        "log": File(Path(config.log.path), log.TABLES),
        SUPPLIERS: File(Path(config.mes.path), mes.TABLES),
    }


NAMES: Final = tuple(files(Config()))


def make(storage: StorageSettings) -> None:
    """Make the tables of the telemetry where there are none; in a cluster those of all other purposes, too.

    A server makes what is missing at its first use, but may not be allowed to in a cluster.

    Raises:
        StorageError: the database can't be opened, or is none of ours.
    """
    open_writer(storage).close()
    if storage.backend == "cassandra":
        _make_parts(storage)


def _make_parts(storage: StorageSettings) -> None:
    from orders.accounts.cassandra import ACCOUNTS  # noqa: PLC0415  # they load the driver
    from orders.book.cassandra import PART as BOOK  # noqa: PLC0415
    from orders.logs.cassandra import PART as LOG  # noqa: PLC0415
    from storage.cassandra.connect import Connected  # noqa: PLC0415
    from storage.cassandra.parts import use_part  # noqa: PLC0415

    with closing(Connected(storage.cassandra)) as connected:
        for part in (ACCOUNTS, BOOK, LOG):
            use_part(connected, part)
