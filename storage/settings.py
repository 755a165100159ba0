"""`[storage]`: where rows are kept, for how long, and how many rejects are kept whole."""

from typing import Annotated, Literal

import msgspec

_Count = Annotated[int, msgspec.Meta(ge=0)]


class SqliteSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[storage.sqlite]`: the embedded database."""

    path: Annotated[str, msgspec.Meta(min_length=1)] = "data/headrace.db"
    """Its file; `-wal` and `-shm` lie beside it while it is open."""


class RejectQuota(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[storage.rejects]`: how many rejects are kept with their bytes; the others are only counted.

    A minute is one of the ledger: by the stamps of the blocks, not by the clock of who writes.
    """

    per_connection: _Count = 600
    """In one minute, of one connection."""

    per_minute: _Count = 6_000
    """In one minute, of all connections of a node together."""

    rows: _Count = 1_000_000
    """In the table at any time."""


class StorageSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[storage]`: which database, and what is kept in it."""

    backend: Literal["sqlite"] = "sqlite"
    """Which kind of database."""

    keep_days: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Rows received longer ago are deleted, in whole minutes; without it they stay for ever."""

    sqlite: SqliteSettings = SqliteSettings()

    rejects: RejectQuota = RejectQuota()
