"""Tables beside those of the telemetry, in the same keyspace: each part has a version of its own.

The keyspace has to be ours already (`headrace db init`, or a server's first start); a part's tables are
made by `headrace db init` as well, or at the part's first use. Tables that were whole once are never made
anew.
"""

from typing import NamedTuple

from storage.cassandra.connect import Connected
from storage.cassandra.meaning import shown, translated
from storage.cassandra.schema import Table, create_cql
from storage.cassandra.tables import check_columns, check_mark, tables_of
from storage.errors import SchemaError, StoreUnavailableError


class Part(NamedTuple):
    """What belongs together."""

    name: str
    version: int
    tables: dict[str, Table]


def use_part(connected: Connected, part: Part) -> None:
    """Go into the keyspace and see that the part's tables are there; made where they never were.

    Raises:
        SchemaError: the keyspace is not ours, or holds another version of them.
        StoreUnavailableError: there is no keyspace yet.
    """
    settings, name = connected.settings, shown(connected.settings)
    if not tables_of(connected):
        raise StoreUnavailableError(f"{name}: holds no tables yet; `headrace db init` makes them")
    check_mark(connected)
    with translated(settings):
        connected.session.set_keyspace(settings.keyspace)
    mark = f"{part.name}_version"
    found = connected.execute("SELECT value FROM headrace WHERE key = %s", mark)
    if not found:
        for table, columns in part.tables.items():
            connected.define(create_cql(table, columns))
        connected.execute("INSERT INTO headrace (key, value) VALUES (%s, %s)", mark, str(part.version))
    elif found[0][0] != str(part.version):
        raise SchemaError(
            f"{name}: holds version {found[0][0]} of the tables of {part.name}, this program knows version"
            f" {part.version}; use the program that made it, or set storage.cassandra.keyspace to a new one"
        )
    check_columns(name, part.tables, tables_of(connected))
