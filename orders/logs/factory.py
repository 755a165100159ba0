"""The log that the configuration asks for; the driver of the other database is never loaded."""

from pathlib import Path

from orders.logs.base import LogStore
from orders.logs.sqlite import SqliteLogStore
from orders.settings import LogSettings
from storage.settings import StorageSettings


def open_log(storage: StorageSettings, log: LogSettings) -> LogStore:
    """A log beside the telemetry's tables, or in a file of its own; reached at the first use."""
    if storage.backend == "cassandra":
        from orders.logs.cassandra import CassandraLogStore  # noqa: PLC0415

        return CassandraLogStore(storage.cassandra, log.keep_days)
    return SqliteLogStore(Path(log.path), log.keep_days)
