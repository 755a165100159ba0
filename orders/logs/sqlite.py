"""The log in a SQLite file of its own.

The rows lie in the order of the key, the newest at the end, so a page is one piece of the file. The index by
level serves those who look for what is rare among much, and the purge, as each level has a time of its own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import apsw
import msgspec

from orders.logs.base import Level, LogPage, LogQuery, LogRow
from orders.logs.rules import Search, life_ms, span_of
from orders.settings import KeepDays
from storage.sqlite.changing import Database
from storage.sqlite.schema import Tables

TABLES: Final = Tables(
    application_id=int.from_bytes(b"Hlog"),
    version=1,
    statements=(
        """CREATE TABLE log (
            id TEXT NOT NULL,
            timestamp INTEGER NOT NULL,
            user_id TEXT NOT NULL,
            additional_info TEXT NOT NULL,
            level TEXT NOT NULL,
            message TEXT NOT NULL,
            source_component TEXT NOT NULL,
            source_file TEXT NOT NULL,
            source_line INTEGER NOT NULL,
            PRIMARY KEY (timestamp, id)
        ) WITHOUT ROWID, STRICT""",
        "CREATE INDEX log_by_level ON log (level, timestamp, id)",
    ),
    setting="log.path",
)

_DELETED_AT_ONCE: Final = 500

_INSERT: Final = "INSERT INTO log VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING"
_NEWEST: Final = """SELECT id, timestamp, user_id, additional_info, level, message, source_component,
        source_file, source_line
    FROM log {} timestamp >= ? AND (timestamp, id) < (?, ?) ORDER BY timestamp DESC, id DESC"""
_OF_ALL: Final = _NEWEST.format("WHERE")
_OF_LEVEL: Final = _NEWEST.format("INDEXED BY log_by_level WHERE level = ? AND")
_DELETE: Final = """DELETE FROM log WHERE (timestamp, id) IN (
        SELECT timestamp, id FROM log INDEXED BY log_by_level
        WHERE level = ? AND timestamp < ? ORDER BY timestamp LIMIT ?)"""


class SqliteLogStore:
    """A `LogStore` in a file, made at the first use."""

    def __init__(self, path: Path, keep: KeepDays) -> None:
        self._database = Database(path, TABLES)
        self._keep = keep

    async def append(self, rows: list[LogRow]) -> None:
        """Add rows; see `LogStore`."""
        values = [_values(row) for row in rows]
        await self._database.change(lambda connection: _insert(connection, values))

    async def query(self, query: LogQuery, limit: int) -> LogPage:
        """A page of the rows that fit; see `LogStore`."""
        return await self._database.read(lambda connection: _page(connection, query, limit))

    async def purge(self, now: int) -> int:
        """Delete some rows whose time is over; see `LogStore`."""
        return await self._database.change(lambda connection: self._delete(connection, now))

    async def close(self) -> None:
        """Let go of the file."""
        await self._database.close()

    def _delete(self, connection: apsw.Connection, now: int) -> int:
        """Of the first level that has any."""
        for level in Level:
            before = now - life_ms(self._keep, level)
            connection.execute(_DELETE, (level.value, before, _DELETED_AT_ONCE))
            if deleted := connection.changes():
                return deleted
        return 0


def _insert(connection: apsw.Connection, values: Sequence[tuple[str | int, ...]]) -> None:
    connection.executemany(_INSERT, values)


def _page(connection: apsw.Connection, query: LogQuery, limit: int) -> LogPage:
    start, last = span_of(query)
    search = Search(query, limit)
    bounds = (start, last.timestamp, str(last.id))
    level = () if query.level is None else (query.level.value,)
    cursor = connection.execute(_OF_LEVEL if level else _OF_ALL, (*level, *bounds))
    try:
        for values in cursor:
            if not search.looks_at(_row(*values)):
                return search.page()
    finally:
        cursor.close(True)
    return search.last_page()


def _values(row: LogRow) -> tuple[str | int, ...]:
    return (
        str(row.id),
        row.timestamp,
        row.user_id,
        msgspec.json.encode(row.additional_info).decode(),
        row.level.value,
        row.message,
        row.source_component,
        row.source_file,
        row.source_line,
    )


def _row(*values: Any) -> LogRow:
    id_, timestamp, user_id, info, level, message, component, file, line = values
    return LogRow(
        id=UUID(id_),
        timestamp=timestamp,
        user_id=user_id,
        additional_info=msgspec.json.decode(info, type=dict[str, str]),
        level=Level(level),
        message=message,
        source_component=component,
        source_file=file,
        source_line=line,
    )
