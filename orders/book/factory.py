"""The book that the configuration asks for; the driver of the other database is never loaded."""

from pathlib import Path

from orders.book.base import OrderBook
from orders.book.sqlite import SqliteOrderBook
from orders.settings import OrderSettings
from storage.settings import StorageSettings


def open_book(storage: StorageSettings, orders: OrderSettings) -> OrderBook:
    """A book beside the telemetry's tables, or in a file of its own; reached at the first use."""
    if storage.backend == "cassandra":
        from orders.book.cassandra import CassandraOrderBook  # noqa: PLC0415

        return CassandraOrderBook(storage.cassandra)
    return SqliteOrderBook(Path(orders.path))
