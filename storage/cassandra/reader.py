"""The reading side of the Cassandra store: every call waits on the loop, none blocks it.

Buckets and days are asked in parallel, a few at a time, and every answer comes in pages, so neither a long
history nor many callers hold much in memory.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, Final

from storage.base import Connection, LedgerMinute, Position, Reading, Rejected
from storage.cassandra.answers import ReadingsHandler, as_latest, in_pieces
from storage.cassandra.asking import Asker, all_of, in_order
from storage.cassandra.connect import Connected
from storage.cassandra.days import DAYS, NODES
from storage.cassandra.encoding import shard_of
from storage.cassandra.purge import sums_of
from storage.cassandra.schema import HOUR_MS, SHARDS, day_of
from storage.cassandra.tables import use
from storage.cassandra.times import to_ms, to_ms_or_none
from storage.settings import CassandraSettings

_DECODED_AT_ONCE: Final = 2_000
"""Rows made into readings before the loop gets its turn."""

_MANY: Final = 10_000
_PARTS: Final = 4
"""So many parts of a bucket are read side by side when many rows are wanted."""

_ABOVE_ALL: Final = (1 << 63) - 1

_LATEST_OF: Final = (
    "SELECT node, received_at, seq, reading FROM latest_readings WHERE shard = ? AND device_id = ?"
)
_LATEST: Final = """SELECT device_id, received_at, seq, reading FROM latest_readings
    WHERE shard = ? AND device_id > ? LIMIT ?"""
_BUCKETS: Final = """SELECT bucket FROM device_buckets WHERE device_id = ? AND bucket >= ? AND bucket <= ?"""
_HISTORY: Final = """SELECT received_at, seq, reading FROM readings WHERE device_id = ? AND bucket = ?
    AND received_at >= ? AND (received_at, seq) < (?, ?) LIMIT ?"""
_REJECTS: Final = """SELECT seq, received_at, connection, peer, reason, field, device_id, place, raw
    FROM rejected_records WHERE node = ? AND day = ? AND seq < ? {} LIMIT ? {}"""
_CONNECTIONS: Final = """SELECT node, connection, opened_at, closed_at, why, peer, identity, bytes,
    unterminated, stored, rejected, unkept, empty, accepted
    FROM connections WHERE node = ? AND day = ? AND connection < ? LIMIT ?"""
_LEDGER: Final = """SELECT node, minute, first_seq, last_seq, set_aside, stored, rejected, unkept, empty,
    accepted FROM ledger WHERE node = ? AND day = ? AND minute >= ? AND minute < ?"""


class CassandraReadingStore:
    """A `ReadingStore` on a cluster, reached at the first read.

    Every call may raise `StoreSlowError` after `deadline_s`, and what connecting may raise.
    """

    def __init__(self, settings: CassandraSettings, *, deadline_s: float = 5.0) -> None:
        self._asker = Asker(settings, _use, deadline_s=deadline_s)

    async def latest(self, device_id: str) -> Reading | None:
        """The newest reading of a device; see `ReadingStore`."""
        return await self._asker.within(self._latest(device_id))

    async def devices(self, *, after: str | None = None, limit: int) -> list[Reading]:
        """The newest reading of each device; see `ReadingStore`."""
        return await self._asker.within(self._devices(after or "", limit))

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
        return await self._asker.within(self._history(device_id, start, last, limit))

    async def rejects(
        self,
        *,
        device_id: str | None = None,
        connection: int | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[Rejected]:
        """Rejected records, newest first; see `ReadingStore`."""
        wanted = {"device_id": device_id, "connection": connection}
        narrower = {name: value for name, value in wanted.items() if value is not None}
        return await self._asker.within(
            self._rejects(narrower, _ABOVE_ALL if before is None else before, limit)
        )

    async def connections(self, *, before: int | None = None, limit: int) -> list[Connection]:
        """Connections, the newest first; see `ReadingStore`."""
        return await self._asker.within(self._connections(_ABOVE_ALL if before is None else before, limit))

    async def ledger(self, start: int, end: int) -> list[LedgerMinute]:
        """Minutes of the ledger; see `ReadingStore`."""
        return await self._asker.within(self._ledger(start, end))

    async def close(self) -> None:
        """Let go of the cluster."""
        await self._asker.close()

    # What the calls do.

    async def _latest(self, device_id: str) -> Reading | None:
        rows = await self._asker.ask(_LATEST_OF, shard_of(device_id), device_id)
        return max((_reading(device_id, *row[1:]) for row in rows), key=_position, default=None)

    async def _devices(self, after: str, limit: int) -> list[Reading]:
        """A device has a row for each node that it was heard by; the newest counts."""
        found: dict[str, Reading] = {}
        asked = [self._devices_of(shard, after, limit) for shard in range(SHARDS)]
        for rows in await all_of(asked):
            for reading in rows:
                known = found.get(reading.device_id, reading)
                found[reading.device_id] = max(known, reading, key=_position)
        return [found[name] for name in sorted(found)[:limit]]

    async def _devices_of(self, shard: int, after: str, limit: int) -> list[Reading]:
        """Of one shard; asks on while several nodes' rows leave too few devices."""
        found: list[Reading] = []
        while len({reading.device_id for reading in found}) < limit:
            pages = await self._asker.ask(_LATEST, shard, after, limit + 1)
            rows = [reading for page in pages for reading in as_latest(*page)]
            if len(rows) <= limit:
                return found + rows
            last = rows[-1].device_id
            whole = [reading for reading in rows if reading.device_id != last]
            if not whole:  # one device with more nodes than that
                newest = await self._latest(last)
                whole = [] if newest is None else [newest]
            found += whole
            after = whole[-1].device_id if whole else last
        return found

    async def _history(self, device_id: str, start: int, last: Position, limit: int) -> list[Reading]:
        connected = await self._asker.connect()
        width = connected.settings.bucket_hours * HOUR_MS
        first = start // width * width
        rows = await self._asker.ask(_BUCKETS, device_id, first, min(last.received_at, _ABOVE_ALL))
        buckets = [to_ms(bucket) for (bucket,) in rows]
        found: list[Reading] = []
        parts = _parts(buckets, width, width // _PARTS if limit >= _MANY else width)
        asked = (
            self._part(device_id, bucket, max(start, begin), min(last, Position(end, -1)), limit)
            for bucket, begin, end in parts
            if begin <= last.received_at and end > start
        )
        async for readings in in_order(asked):
            found += readings
            if len(found) >= limit:
                break
        return found[:limit]

    async def _part(
        self, device_id: str, bucket: int, start: int, last: Position, limit: int
    ) -> list[Reading]:
        """Of one bucket, from `start` to before `last`, the newest first."""
        found: list[Reading] = []
        for count, encoded in await self._asker.ask(_HISTORY, device_id, bucket, start, *last, limit):
            for readings in in_pieces(device_id, count, encoded, _DECODED_AT_ONCE):
                found += readings
                await asyncio.sleep(0)
        return found

    async def _rejects(self, narrower: dict[str, Any], before: int, limit: int) -> list[Rejected]:
        conditions = " ".join(f"AND {name} = ?" for name in narrower)
        cql = _REJECTS.format(conditions, "ALLOW FILTERING" if narrower else "")
        found: list[Rejected] = []
        for node in sorted(await self._nodes(), reverse=True):
            asked = (
                self._asker.ask(cql, node, day, before, *narrower.values(), limit)
                for day in await self._days(node)
            )
            async for rows in in_order(asked):
                found += [Rejected(row[0], to_ms(row[1]), *row[2:]) for row in rows]
                if len(found) >= limit:
                    return found[:limit]
        return found

    async def _connections(self, before: int, limit: int) -> list[Connection]:
        """By number over all nodes, so day by day."""
        of_day: dict[int, list[int]] = {}
        for node in await self._nodes():
            for day in await self._days(node):
                of_day.setdefault(day, []).append(node)
        found: list[Connection] = []
        days = [day for day in sorted(of_day, reverse=True) if day <= day_of(before // 1000)]
        async for rows in in_order(self._connections_of(day, of_day[day], before, limit) for day in days):
            found += rows
            if len(found) >= limit:
                break
        return found[:limit]

    async def _connections_of(self, day: int, nodes: list[int], before: int, limit: int) -> list[Connection]:
        asked = [self._asker.ask(_CONNECTIONS, node, day, before, limit) for node in nodes]
        rows = [_connection(row) for rows in await all_of(asked) for row in rows if row[2] is not None]
        return sorted(rows, key=lambda row: (row.connection, row.node), reverse=True)

    async def _ledger(self, start: int, end: int) -> list[LedgerMinute]:
        found: list[LedgerMinute] = []
        for node in sorted(await self._nodes()):
            days = [day for day in await self._days(node) if day_of(start) <= day < end]
            asked = (self._asker.ask(_LEDGER, node, day, start, end) for day in sorted(days))
            async for rows in in_order(asked):
                found += [_minute(row) for row in reversed(rows) if row[2] is not None]
        return found

    async def _nodes(self) -> list[int]:
        return [node for (node,) in await self._asker.ask(NODES)]

    async def _days(self, node: int) -> list[int]:
        """The newest first."""
        return [to_ms(day) for (day,) in await self._asker.ask(DAYS, node)]


def _use(connected: Connected) -> None:
    use(connected)
    connected.session.client_protocol_handler = ReadingsHandler


def _parts(buckets: Iterable[int], width: int, part: int) -> Iterator[tuple[int, int, int]]:
    """The buckets in equal parts, each with its bucket, beginning and end; the newest of each first."""
    for bucket in buckets:
        for end in range(bucket + width, bucket, -part):
            yield bucket, end - part, end


def _reading(device_id: str, received_at: Any, seq: int, reading: tuple[float, ...]) -> Reading:
    return Reading(device_id, to_ms(received_at), seq, *reading)


def _position(reading: Reading) -> Position:
    return Position(reading.received_at, reading.seq)


def _connection(row: tuple[Any, ...]) -> Connection:
    node, connection, opened_at, closed_at, why, peer, identity, size, unterminated = row[:9]
    return Connection(
        node,
        connection,
        to_ms(opened_at),
        to_ms_or_none(closed_at),
        why,
        peer,
        identity,
        size or 0,
        *sums_of(row),
        unterminated or 0,
    )


def _minute(row: tuple[Any, ...]) -> LedgerMinute:
    node, minute, first_seq, last_seq, set_aside = row[:5]
    return LedgerMinute(node, to_ms(minute), first_seq, last_seq, *sums_of(row), set_aside or 0)
