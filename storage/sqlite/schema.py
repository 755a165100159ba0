"""The telemetry's tables in SQLite, and how a file says which tables it holds.

`application_id` says that a file is ours and which tables are in it, `user_version` which version of them.
Another program's file is never touched, and a file of another version neither: its rows are somebody's only
copy.

`readings` is clustered: the rows lie in the order of the key, so one device's hour is one piece of the
file, and there is no second index to keep. All tables are STRICT, so a column holds what its type says
whoever writes. docs/tables.md explains every column to those who read them.
"""

from pathlib import Path
from typing import Final, NamedTuple

import apsw

from storage.errors import SchemaError, StoreUnavailableError

APPLICATION_ID: Final = int.from_bytes(b"Hdrc")
VERSION: Final = 1

_READING: Final = """(
    device_id TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    spindle_temperature_c REAL NOT NULL,
    spindle_speed_rpm REAL NOT NULL,
    coolant_flow_lpm REAL NOT NULL,
    power_kw REAL NOT NULL,
    voltage_v REAL NOT NULL,
    PRIMARY KEY ({key})
) WITHOUT ROWID, STRICT"""

_TABLES: Final = (
    "CREATE TABLE readings " + _READING.format(key="device_id, received_at, seq"),
    "CREATE TABLE latest_readings " + _READING.format(key="device_id"),
    """CREATE TABLE rejected_records (
        seq INTEGER PRIMARY KEY,
        received_at INTEGER NOT NULL,
        connection INTEGER NOT NULL,
        peer TEXT NOT NULL,
        reason TEXT NOT NULL,
        field TEXT,
        device_id TEXT,
        place INTEGER NOT NULL,
        raw BLOB NOT NULL
    ) STRICT""",
    "CREATE INDEX rejected_by_connection ON rejected_records (connection)",
    "CREATE INDEX rejected_by_device ON rejected_records (device_id) WHERE device_id IS NOT NULL",
    """CREATE TABLE connections (
        connection INTEGER NOT NULL,
        node INTEGER NOT NULL,
        opened_at INTEGER NOT NULL,
        closed_at INTEGER,
        why TEXT,
        peer TEXT NOT NULL,
        identity TEXT,
        bytes INTEGER NOT NULL DEFAULT 0,
        stored INTEGER NOT NULL DEFAULT 0,
        rejected INTEGER NOT NULL DEFAULT 0,
        unkept INTEGER NOT NULL DEFAULT 0,
        empty INTEGER NOT NULL DEFAULT 0,
        unterminated INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (connection, node)
    ) WITHOUT ROWID, STRICT""",
    "CREATE INDEX connections_by_end ON connections (closed_at)",
    """CREATE TABLE ledger (
        node INTEGER NOT NULL,
        minute INTEGER NOT NULL,
        first_seq INTEGER NOT NULL,
        last_seq INTEGER NOT NULL,
        stored INTEGER NOT NULL,
        rejected INTEGER NOT NULL,
        unkept INTEGER NOT NULL,
        empty INTEGER NOT NULL,
        set_aside INTEGER NOT NULL,
        PRIMARY KEY (node, minute)
    ) WITHOUT ROWID, STRICT""",
    """CREATE TABLE nodes (
        node INTEGER PRIMARY KEY,
        journal TEXT,
        next_record INTEGER NOT NULL DEFAULT 0,
        kept_rejects INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    """CREATE TABLE cursors (
        node INTEGER NOT NULL,
        journal TEXT NOT NULL,
        block INTEGER NOT NULL,
        PRIMARY KEY (node, journal)
    ) WITHOUT ROWID, STRICT""",
    """CREATE TABLE purged (
        node INTEGER PRIMARY KEY,
        before INTEGER NOT NULL,
        last_seq INTEGER,
        ledger_stored INTEGER NOT NULL DEFAULT 0,
        ledger_rejected INTEGER NOT NULL DEFAULT 0,
        ledger_unkept INTEGER NOT NULL DEFAULT 0,
        ledger_empty INTEGER NOT NULL DEFAULT 0,
        connections_stored INTEGER NOT NULL DEFAULT 0,
        connections_rejected INTEGER NOT NULL DEFAULT 0,
        connections_unkept INTEGER NOT NULL DEFAULT 0,
        connections_empty INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
)


class Tables(NamedTuple):
    """What one file holds."""

    application_id: int
    version: int
    statements: tuple[str, ...]
    """That make the tables in an empty file."""

    setting: str
    """Which key of the configuration names the file."""


READINGS: Final = Tables(APPLICATION_ID, VERSION, _TABLES, "storage.sqlite.path")


def create_tables(connection: apsw.Connection, path: Path, tables: Tables) -> None:
    """Make the tables where there are none yet; call it within a transaction.

    Raises:
        SchemaError: there is something else in the file.
    """
    if not is_blank(connection):
        check_tables(connection, path, tables)
        return
    for statement in tables.statements:
        connection.execute(statement)
    connection.pragma("application_id", tables.application_id)
    connection.pragma("user_version", tables.version)


def check_tables(connection: apsw.Connection, path: Path, tables: Tables) -> None:
    """See that the file holds the tables that this program knows.

    Raises:
        SchemaError: it holds something else.
        StoreUnavailableError: it holds nothing yet.
    """
    if is_blank(connection):
        raise StoreUnavailableError(f"{path}: holds no tables yet; `headrace db init` makes them")
    owner = connection.pragma("application_id")
    if owner != tables.application_id:
        raise SchemaError(
            f"{path}: is another program's database (application id {owner}, ours is"
            f" {tables.application_id}); set {tables.setting} to a file of its own"
        )
    version = connection.pragma("user_version")
    if version != tables.version:
        raise SchemaError(
            f"{path}: holds version {version} of the tables, this program knows version {tables.version}; "
            f"use the program that made it, or set {tables.setting} to a new file"
        )


def is_blank(connection: apsw.Connection) -> bool:
    """Whether nobody has put anything into the file yet."""
    marked = connection.pragma("application_id") or connection.pragma("user_version")
    return not marked and connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
