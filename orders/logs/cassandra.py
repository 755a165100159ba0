"""The log on a cluster, beside the telemetry's tables in the same keyspace.

A partition holds one hour and one level: rows of a level have one time to live, so a partition expires as a
whole, and who looks for what is rare reads nothing else. `log_hours` says which hours a level has rows in;
nobody has to search for partitions, and no index but the keys is needed.

A page is made from the newest hours on, a few asked side by side, within a big hour piece by piece. What is
among the newest of several partitions is among the newest of its own, so each is asked for so many and no
more.
"""

from typing import Any, Final

from orders.logs.base import Level, LogPage, LogPlace, LogQuery, LogRow
from orders.logs.rules import Search, beginning_of, life_ms, place_of, span_of
from orders.settings import KeepDays
from storage.cassandra.asking import Asker, all_of, in_order
from storage.cassandra.expiry import countable_s
from storage.cassandra.parts import Part, use_part
from storage.cassandra.schema import EXPIRES_LATER_S, HOUR_MS, Table, columns_of
from storage.cassandra.times import to_ms
from storage.settings import CassandraSettings

PART: Final = Part(
    "log",
    1,
    {
        "log": Table(
            columns_of("hour timestamp, level text, timestamp timestamp, id uuid, user_id text, message text")
            | {"additional_info": "map<text, text>"}
            | columns_of("source_component text, source_file text, source_line int"),
            "(hour, level), timestamp, id",
            "timestamp DESC, id DESC",
        ),
        "log_hours": Table(columns_of("level text, hour timestamp"), "level, hour", "hour DESC"),
    },
)

_HOURS: Final = 100
"""So many hours are looked at for one page, at most."""

_ROWS: Final = 200
"""So many rows of an hour are asked for at once."""

_WRITTEN_TOGETHER: Final = 100
"""A row has 40 KB at most, and a write has to stay below 16 MiB."""

_SAY_HOUR: Final = "INSERT INTO log_hours (level, hour) VALUES (?, ?) USING TTL ?"
_INSERT: Final = """INSERT INTO log (hour, level, timestamp, id, user_id, additional_info, message,
    source_component, source_file, source_line) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ?"""
_HOURS_OF: Final = "SELECT hour FROM log_hours WHERE level = ? AND hour >= ? AND hour <= ? LIMIT ?"
_NEWEST: Final = """SELECT level, timestamp, id, user_id, additional_info, message, source_component,
    source_file, source_line FROM log
    WHERE hour = ? AND level = ? AND timestamp >= ? AND (timestamp, id) < (?, ?) LIMIT ?"""


class CassandraLogStore:
    """A `LogStore` on a cluster, reached at the first use; the tables are made then.

    Every call may raise `StoreSlowError` after `deadline_s`, and what connecting may raise.
    """

    def __init__(self, settings: CassandraSettings, keep: KeepDays, *, deadline_s: float = 5.0) -> None:
        self._asker = Asker(settings, lambda connected: use_part(connected, PART), deadline_s=deadline_s)
        self._keep = keep

    async def append(self, rows: list[LogRow]) -> None:
        """Add rows; see `LogStore`. Each expires when its level's time is over, counted from now."""
        await self._asker.within(self._append(rows))

    async def query(self, query: LogQuery, limit: int) -> LogPage:
        """A page of the rows that fit; see `LogStore`."""
        return await self._asker.within(self._query(query, limit))

    async def purge(self, now: int) -> int:
        """Nothing to do: rows expire by themselves."""
        del now
        return 0

    async def close(self) -> None:
        """Let go of the cluster."""
        await self._asker.close()

    async def _append(self, rows: list[LogRow]) -> None:
        """Hours before their rows, so that no row is ever where nobody looks."""
        partitions: dict[tuple[Level, int], list[LogRow]] = {}
        for row in rows:
            partitions.setdefault((row.level, _hour_of(row.timestamp)), []).append(row)
        lives = {level: self._life_s(level) for level, _ in partitions}
        await all_of(
            self._asker.ask(_SAY_HOUR, level.value, hour, lives[level] and lives[level] + EXPIRES_LATER_S)
            for level, hour in partitions
        )
        await all_of(
            self._asker.write_together(_INSERT, [_values(row, lives[level]) for row in some])
            for (level, _), members in partitions.items()
            for some in _in_pieces(members)
        )

    def _life_s(self, level: Level) -> int:
        return countable_s(max(1, life_ms(self._keep, level) // 1000))

    async def _query(self, query: LogQuery, limit: int) -> LogPage:
        start, last = span_of(query)
        levels = list(Level) if query.level is None else [query.level]
        hours = await self._hours(levels, start, last)
        search = Search(query, limit)
        left = iter(hours)
        async for newest in in_order(self._newest(*hour, start, last) for hour in hours):
            if not await self._go_through(search, *next(left), start, newest):
                return search.page()
        return search.last_page(beginning_of(hours[-1][0]) if len(hours) == _HOURS else None)

    async def _hours(self, levels: list[Level], start: int, last: LogPlace) -> list[tuple[int, list[Level]]]:
        """The newest of the hours that have rows, each with the levels that have them."""
        bounds = (_hour_of(start), _hour_of(last.timestamp), _HOURS)
        answers = await all_of(self._asker.ask(_HOURS_OF, level.value, *bounds) for level in levels)
        found: dict[int, list[Level]] = {}
        for level, hours in zip(levels, answers, strict=True):
            for (hour,) in hours:
                found.setdefault(to_ms(hour), []).append(level)
        return sorted(found.items(), reverse=True)[:_HOURS]

    async def _newest(self, hour: int, levels: list[Level], start: int, last: LogPlace) -> list[LogRow]:
        """The newest rows of an hour that are before this place."""
        bounds = (start, last.timestamp, last.id, _ROWS)
        answers = await all_of(self._asker.ask(_NEWEST, hour, level.value, *bounds) for level in levels)
        rows = [_row(*values) for answer in answers for values in answer]
        return sorted(rows, key=place_of, reverse=True)[:_ROWS]

    async def _go_through(
        self, search: Search, hour: int, levels: list[Level], start: int, newest: list[LogRow]
    ) -> bool:
        """Look at the newest rows of an hour and at all that come behind them; whether more are wanted."""
        rows = newest
        while all(map(search.looks_at, rows)):
            if len(rows) < _ROWS:
                return True
            rows = await self._newest(hour, levels, start, place_of(rows[-1]))
        return False


def _hour_of(ms: int) -> int:
    return ms - ms % HOUR_MS


def _in_pieces(rows: list[LogRow]) -> list[list[LogRow]]:
    return [rows[first : first + _WRITTEN_TOGETHER] for first in range(0, len(rows), _WRITTEN_TOGETHER)]


def _values(row: LogRow, life_s: int) -> tuple[object, ...]:
    return (
        _hour_of(row.timestamp),
        row.level.value,
        row.timestamp,
        row.id,
        row.user_id,
        row.additional_info,
        row.message,
        row.source_component,
        row.source_file,
        row.source_line,
        life_s,
    )


def _row(*values: Any) -> LogRow:
    level, timestamp, id_, user_id, info, message, component, file, line = values
    return LogRow(
        id=id_,
        timestamp=to_ms(timestamp),
        user_id=user_id,
        additional_info=dict(info or {}),
        level=Level(level),
        message=message,
        source_component=component,
        source_file=file,
        source_line=line,
    )
