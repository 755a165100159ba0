"""The reading side of the reference, and its quarantine."""

from msgspec.structs import replace

from parser.block import from_seq
from parser.verdicts import NEVER_REPLAYED, Accepted
from storage.base import Connection, LedgerMinute, Position, Reading, Rejected, minute_of
from storage.memory.tables import MemoryTables


class MemoryReadingStore:
    """A `ReadingStore` on tables in memory."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables

    async def latest(self, device_id: str) -> Reading | None:
        """The newest reading of a device; see `ReadingStore`."""
        return self._tables.latest.get(device_id)

    async def devices(self, *, after: str | None = None, limit: int) -> list[Reading]:
        """The newest reading of each device; see `ReadingStore`."""
        rows = sorted(self._tables.latest.values(), key=lambda row: row.device_id)
        return [row for row in rows if after is None or row.device_id > after][:limit]

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
        rows = sorted(self._tables.readings.values(), key=_position, reverse=True)
        return [
            row
            for row in rows
            if row.device_id == device_id
            and start <= row.received_at < end
            and (before is None or _position(row) < before)
        ][:limit]

    async def rejects(
        self,
        *,
        device_id: str | None = None,
        connection: int | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[Rejected]:
        """Rejected records, newest first; see `ReadingStore`."""
        rows = sorted(self._tables.rejected.values(), key=lambda row: row.seq, reverse=True)
        return [
            row
            for row in rows
            if device_id in (None, row.device_id)
            and connection in (None, row.connection)
            and (before is None or row.seq < before)
        ][:limit]

    async def connections(self, *, before: int | None = None, limit: int) -> list[Connection]:
        """Connections, the newest first; see `ReadingStore`."""
        rows = sorted(
            self._tables.connections.values(), key=lambda row: (row.connection, row.node), reverse=True
        )
        return [row for row in rows if before is None or row.connection < before][:limit]

    async def ledger(self, start: int, end: int) -> list[LedgerMinute]:
        """Minutes of the ledger; see `ReadingStore`."""
        rows = sorted(self._tables.ledger.values(), key=lambda row: (row.node, row.minute))
        return [row for row in rows if start <= row.minute < end]

    async def close(self) -> None:
        """Nothing to let go of."""


class MemoryQuarantine:
    """A `Quarantine` on tables in memory."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables

    def page(self, after: int, limit: int) -> list[Rejected]:
        """Rejected records that may be judged again; see `Quarantine`."""
        rows = sorted(self._tables.rejected.values(), key=lambda row: row.seq)
        return [row for row in rows if row.seq > after and row.reason not in NEVER_REPLAYED][:limit]

    def accept(self, rejected: Rejected, record: Accepted) -> bool:
        """Move a reject to the readings; see `Quarantine`."""
        tables = self._tables
        if tables.rejected.pop(rejected.seq, None) is None:
            return False
        tables.store(Reading(record.device_id, rejected.received_at, rejected.seq, *record.values))
        node, _ = from_seq(rejected.seq)
        minute = tables.ledger[node, minute_of(rejected.received_at)]
        tables.ledger[node, minute.minute] = replace(
            minute, rejected=minute.rejected - 1, stored=minute.stored + 1
        )
        row = tables.connections[node, rejected.connection]
        tables.put(replace(row, rejected=row.rejected - 1, stored=row.stored + 1))
        return True

    def close(self) -> None:
        """Nothing to let go of."""


def _position(row: Reading) -> Position:
    return Position(row.received_at, row.seq)
