"""What is the same in every store: which rows fit, how far a search looks, how long a row stays.

Databases fold case and read wildcards each in its own way. So they only bring rows, the newest first, and
what fits is decided here.
"""

from typing import Final
from uuid import UUID

import msgspec

from orders.logs.base import Level, LogPage, LogPlace, LogQuery, LogRow
from orders.settings import KeepDays

LOOKED_AT: Final = 2_000
"""So many rows, of the level where one is named, are looked at for one page, at most."""

_DAY_MS: Final = 86_400_000
_EVER: Final = 1 << 62
"""A time that every database can count to."""


def life_ms(keep: KeepDays, level: Level) -> int:
    """How long a row of this level stays."""
    days: float = msgspec.structs.asdict(keep)[level]
    return int(days * _DAY_MS)


def beginning_of(ms: int) -> LogPlace:
    """The place behind which, the newest first, all rows are older than this time."""
    return LogPlace(ms, UUID(int=0))


def place_of(row: LogRow) -> LogPlace:
    """Where it stands."""
    return LogPlace(row.timestamp, row.id)


def span_of(query: LogQuery) -> tuple[int, LogPlace]:
    """From which time on, and before which place."""
    end = beginning_of(_counted(query.end))
    before = query.before or end
    return _counted(query.start), min(end, LogPlace(_counted(before.timestamp), before.id))


def _counted(ms: int) -> int:
    return max(-_EVER, min(ms, _EVER))


def fits(row: LogRow, query: LogQuery) -> bool:
    """Whether it is one that is wanted, wherever it stands."""
    return (
        query.level in (None, row.level)
        and query.user_id in (None, row.user_id)
        and query.component in (None, row.source_component)
        and (query.text is None or _contains(row, query.text))
    )


def _contains(row: LogRow, text: str) -> bool:
    wanted = _folded(text)
    return any(wanted in _folded(part) for part in (row.message, *row.additional_info.values()))


def _folded(text: str) -> bytes:
    """Bytes fold ASCII letters only; in UTF-8 no character lies across the border of two others."""
    return text.encode(errors="surrogatepass").lower()


class Search:
    """One page in the making; the store brings rows, the newest first, until it is enough."""

    def __init__(self, query: LogQuery, limit: int) -> None:
        self._query = query
        self._limit = limit
        self._rows: list[LogRow] = []
        self._looked_at = 0
        self._last: LogPlace | None = None

    def looks_at(self, row: LogRow) -> bool:
        """Take the row if it fits; whether more are wanted."""
        self._looked_at += 1
        self._last = place_of(row)
        if fits(row, self._query):
            self._rows.append(row)
        return len(self._rows) < self._limit and self._looked_at < LOOKED_AT

    def page(self) -> LogPage:
        """What was found so far; it goes on behind the row that was looked at last."""
        return LogPage(self._rows, self._last)

    def last_page(self, go_on: LogPlace | None = None) -> LogPage:
        """What was found when all rows before `go_on` were looked at; without it all there are."""
        return LogPage(self._rows, go_on)
