"""The embedded databases: a file for each purpose, so that none waits for another's commits."""

from pathlib import Path
from typing import Final, NamedTuple

from headrace.config import Config
from mes.amp import store as mes
from orders.accounts import sqlite as accounts
from orders.book import sqlite as book
from orders.logs import sqlite as log
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
