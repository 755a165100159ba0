"""The reading side of the SQLite store.

SQLite steps from row to row, and each step lets go of the interpreter and asks for it again. Beside a
busy event loop every row would wait its turn: 19 000 rows took 11 ms alone and 1.4 s beside a busy
thread. So the rows of an answer are made into one JSON text inside SQLite, a page at a time, and decoded
in one go: SQLite writes numbers so that they read back exactly.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import apsw
import msgspec

from storage.base import Connection, LedgerMinute, Position, Reading, Rejected
from storage.sqlite.asking import Readers
from storage.sqlite.schema import READINGS

_Question = Sequence[int | str] | dict[str, int | str | None]

_PAGE_ROWS: Final = 4_096
_ABOVE_ALL: Final = (1 << 63) - 1

_READING: Final = """SELECT json_group_array(json_object(
        'device_id', device_id, 'received_at', received_at, 'seq', seq,
        'spindle_temperature_c', spindle_temperature_c, 'spindle_speed_rpm', spindle_speed_rpm,
        'coolant_flow_lpm', coolant_flow_lpm, 'power_kw', power_kw, 'voltage_v', voltage_v))
    FROM ({})"""

_LATEST: Final = _READING.format("SELECT * FROM latest_readings WHERE device_id = ?")

_DEVICES: Final = _READING.format(
    "SELECT * FROM latest_readings WHERE device_id > ? ORDER BY device_id LIMIT ?"
)

_HISTORY: Final = _READING.format(
    """SELECT * FROM readings
        WHERE device_id = ? AND received_at >= ? AND (received_at, seq) < (?, ?)
        ORDER BY received_at DESC, seq DESC LIMIT ?"""
)

_REJECTS: Final = """SELECT json_group_array(json_array(
        seq, received_at, connection, peer, reason, field, device_id, place, hex(raw)))
    FROM (SELECT * FROM rejected_records WHERE seq < :before {}
        ORDER BY seq DESC LIMIT :limit)"""

_CONNECTIONS: Final = """SELECT json_group_array(json_object(
        'node', node, 'connection', connection, 'opened_at', opened_at, 'closed_at', closed_at,
        'why', why, 'peer', peer, 'identity', identity, 'bytes', bytes, 'stored', stored,
        'rejected', rejected, 'unkept', unkept, 'empty', empty, 'unterminated', unterminated))
    FROM (SELECT * FROM connections WHERE connection < ? ORDER BY connection DESC, node DESC LIMIT ?)"""

_LEDGER: Final = """SELECT json_group_array(json_object(
        'node', node, 'minute', minute, 'first_seq', first_seq, 'last_seq', last_seq,
        'stored', stored, 'rejected', rejected, 'unkept', unkept, 'empty', empty,
        'set_aside', set_aside))
    FROM (SELECT * FROM ledger WHERE minute >= ? AND minute < ? ORDER BY node, minute)"""

_readings = msgspec.json.Decoder(list[Reading])
_rejects = msgspec.json.Decoder(list[tuple[int, int, int, str, str, str | None, str | None, int, str]])
_connections = msgspec.json.Decoder(list[Connection])
_ledger = msgspec.json.Decoder(list[LedgerMinute])


class SqliteReadingStore:
    """A `ReadingStore` on one database file, opened at the first read.

    Every call may raise `StoreSlowError` after `deadline_s`, and what opening the file may raise.
    """

    def __init__(self, path: Path, *, threads: int = 2, deadline_s: float = 5.0) -> None:
        self._readers = Readers(path, READINGS, threads=threads, deadline_s=deadline_s)

    async def latest(self, device_id: str) -> Reading | None:
        """The newest reading of a device; see `ReadingStore`."""
        rows = await self._readers.ask(lambda db: _readings.decode(_one(db, _LATEST, (device_id,))))
        return rows[0] if rows else None

    async def devices(self, *, after: str | None = None, limit: int) -> list[Reading]:
        """The newest reading of each device; see `ReadingStore`."""
        return await self._readers.ask(lambda db: _readings.decode(_one(db, _DEVICES, (after or "", limit))))

    async def history(
        self,
        device_id: str,
        start: int,
        end: int,
        *,
        limit: int,
        before: Position | None = None,
    ) -> list[Reading]:
        """Readings of a device, newest first; see `ReadingStore`."""
        last = min(before or Position(end, -1), Position(end, -1))
        return await self._readers.ask(lambda db: _history(db, device_id, start, last, limit))

    async def rejects(
        self,
        *,
        device_id: str | None = None,
        connection: int | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[Rejected]:
        """Rejected records, newest first; see `ReadingStore`."""
        question = {
            "device_id": device_id,
            "connection": connection,
            "before": _ABOVE_ALL if before is None else before,
            "limit": limit,
        }
        narrower = [
            f"AND {name} = :{name}" for name in ("device_id", "connection") if question[name] is not None
        ]
        sql = _REJECTS.format(" ".join(narrower))
        rows = await self._readers.ask(lambda db: _rejects.decode(_one(db, sql, question)))
        return [Rejected(*row[:8], bytes.fromhex(row[8])) for row in rows]

    async def connections(self, *, before: int | None = None, limit: int) -> list[Connection]:
        """Connections, the newest first; see `ReadingStore`."""
        question = (_ABOVE_ALL if before is None else before, limit)
        return await self._readers.ask(lambda db: _connections.decode(_one(db, _CONNECTIONS, question)))

    async def ledger(self, start: int, end: int) -> list[LedgerMinute]:
        """Minutes of the ledger; see `ReadingStore`."""
        return await self._readers.ask(lambda db: _ledger.decode(_one(db, _LEDGER, (start, end))))

    async def close(self) -> None:
        """End what is still being read, and let go of the database."""
        await self._readers.close()


def _one(connection: apsw.Connection, sql: str, question: _Question) -> str:
    text: str = connection.execute(sql, question).get
    return text


def _history(
    connection: apsw.Connection, device_id: str, start: int, last: Position, limit: int
) -> list[Reading]:
    found: list[Reading] = []
    while len(found) < limit:
        rows = min(_PAGE_ROWS, limit - len(found))
        page = _readings.decode(_one(connection, _HISTORY, (device_id, start, *last, rows)))
        found += page
        if len(page) < rows:
            break
        last = Position(page[-1].received_at, page[-1].seq)
    return found
