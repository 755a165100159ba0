"""The log in memory: the reference, written plainly enough to be seen to be right."""

from orders.logs.base import LogPage, LogPlace, LogQuery, LogRow
from orders.logs.rules import Search, life_ms, span_of
from orders.settings import KeepDays


class MemoryLogStore:
    """A `LogStore` that ends with its process."""

    def __init__(self, keep: KeepDays) -> None:
        self._keep = keep
        self._rows: dict[LogPlace, LogRow] = {}

    async def append(self, rows: list[LogRow]) -> None:
        """Add rows; see `LogStore`."""
        for row in rows:
            self._rows.setdefault(LogPlace(row.timestamp, row.id), row)

    async def query(self, query: LogQuery, limit: int) -> LogPage:
        """A page of the rows that fit; see `LogStore`."""
        start, last = span_of(query)
        search = Search(query, limit)
        for place in sorted(self._rows, reverse=True):
            row = self._rows[place]
            there = start <= place.timestamp and place < last and query.level in (None, row.level)
            if there and not search.looks_at(row):
                return search.page()
        return search.last_page()

    async def purge(self, now: int) -> int:
        """Delete rows whose time is over; see `LogStore`."""
        over = [
            place for place, row in self._rows.items() if row.timestamp < now - life_ms(self._keep, row.level)
        ]
        for place in over:
            del self._rows[place]
        return len(over)

    async def close(self) -> None:
        """Nothing to let go of."""
