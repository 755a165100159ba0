"""The two shapes of a row: five columns, as most would make them, and the one frozen value of our tables.

But for the values, both tables are made as `readings` is.
"""

from typing import Final, NamedTuple

from storage.cassandra import schema

_READING: Final = "reading frozen<reading>"


class Shape(NamedTuple):
    """A table with rows of one shape."""

    label: str
    table: str
    columns: str
    """The values, with their types."""

    @property
    def create(self) -> str:
        """The statement that makes it."""
        ours = schema.table_cql("readings", None)
        return ours.replace("EXISTS readings", f"EXISTS {self.table}").replace(_READING, self.columns)

    @property
    def insert(self) -> str:
        """The statement that inserts a row."""
        values = [column.split()[0] for column in self.columns.split(",")]
        names = ["device_id", "bucket", "received_at", "seq", *values]
        marks = ", ".join("?" for _ in names)
        return f"INSERT INTO {self.table} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608  # our own names


FIVE_COLUMNS: Final = Shape("five columns", "rows_of_five_columns", schema.VALUES)
FROZEN: Final = Shape("frozen", "rows_of_one_frozen", _READING)
