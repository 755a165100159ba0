"""The contract of whoever keeps the log."""

from enum import StrEnum
from typing import Protocol
from uuid import UUID

import msgspec


class Level(StrEnum):
    """How much a row matters; each level is kept for a time of its own."""

    INFO = "INFO"
    """Routine operations and outcomes."""

    WARN = "WARN"
    """Something that should not have been tried, or did not work at first."""

    ERROR = "ERROR"
    """Affects performance or flow."""

    FATAL = "FATAL"
    """May halt the application."""


class LogRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row; the columns of the table have the same names."""

    id: UUID
    """Of one version in all rows: databases sort each version apart."""

    timestamp: int
    """Milliseconds since 1970 UTC."""

    user_id: str
    """Whose doing it is, such as `Factory_model_customer`; empty where nobody's."""

    additional_info: dict[str, str]
    """What belongs to it, such as `{'reason': 'Invalid credentials'}`; among it `trace_id`."""

    level: Level
    message: str
    source_component: str
    """Such as `Authentication` or `CustomerOrder`."""

    source_file: str
    """Such as `SecurityController` or `AmpFacadeAPI`."""

    source_line: int


class LogPlace(msgspec.Struct, frozen=True, order=True):
    """Where a page ends: the order of the rows."""

    timestamp: int
    id: UUID


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows; what is None does not narrow."""

    start: int
    """From this time on, in milliseconds since 1970 UTC."""

    end: int
    """Before this time."""

    level: Level | None = None
    """This level exactly."""

    user_id: str | None = None
    component: str | None = None
    text: str | None = None
    """Somewhere in the message or in a value of additional_info, whatever the case of ASCII letters."""

    before: LogPlace | None = None
    """Only what comes after this row when the newest is first: the last row of the page before."""


class LogPage(msgspec.Struct, frozen=True):
    """Rows, the newest first, by (timestamp, id)."""

    rows: list[LogRow]
    next: LogPlace | None
    """Where to go on; None when there is nothing more. A page may have few rows, or none, and yet go on:
    a search looks at a bounded number of rows of the level for one page."""


class LogStore(Protocol):
    """Every call may raise `storage.errors.StorageError`."""

    async def append(self, rows: list[LogRow]) -> None:
        """Write rows, durable when it returns; a row that is there already is not written twice."""
        ...

    async def query(self, query: LogQuery, limit: int) -> LogPage:
        """A page of the rows that fit."""
        ...

    async def purge(self, now: int) -> int:
        """Delete some rows whose level's time is over; how many. 0 where the database does it by itself."""
        ...

    async def close(self) -> None:
        """Let go of the database."""
        ...
