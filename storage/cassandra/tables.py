"""The tables in the keyspace: made where there are none, and looked at before they are used.

What is there already must be ours, of this version, and as it was made.
"""

from collections.abc import Mapping

from storage.cassandra import schema
from storage.cassandra.connect import Connected
from storage.cassandra.meaning import shown, translated
from storage.errors import SchemaError, StoreUnavailableError


def use(connected: Connected) -> Connected:
    """Go into the keyspace, whose tables have to be ours.

    Raises:
        SchemaError: they are not, or of another version.
        StoreUnavailableError: there are none yet.
    """
    check_tables(connected)
    with translated(connected.settings):
        connected.session.set_keyspace(connected.settings.keyspace)
    return connected


def create_tables(connected: Connected, keep_days: float | None) -> None:
    """Make the keyspace and its tables where there are none; what is there already must be ours.

    Tables that were whole once are never made anew: one that is missing was dropped, and an empty one in its
    place would hide that.

    Raises:
        SchemaError: the keyspace holds something else, or tables of another version.
    """
    settings = connected.settings
    if tables_of(connected) and check_mark(connected):
        check_tables(connected)
        with translated(settings):
            connected.session.set_keyspace(settings.keyspace)
        return
    if not _has_keyspace(connected):
        connected.define(
            schema.keyspace_cql(settings.keyspace, connected.datacenter, settings.replication_factor)
        )
    with translated(settings):
        connected.session.set_keyspace(settings.keyspace)
    for cql in (schema.MARK, *map(schema.type_cql, schema.TYPES)):
        connected.define(cql)
    check_types(connected)
    for name in schema.TABLES:
        connected.define(schema.table_cql(name, keep_days))
    connected.execute(
        "INSERT INTO headrace (key, value) VALUES ('bucket_hours', %s)", str(settings.bucket_hours)
    )
    connected.execute("INSERT INTO headrace (key, value) VALUES ('version', %s)", str(schema.VERSION))


def _has_keyspace(connected: Connected) -> bool:
    """Whether it is there: who may make tables in it may not be allowed to make it, were it there or not."""
    found = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = %s"
    return bool(connected.execute(found, connected.settings.keyspace))


def check_tables(connected: Connected) -> None:
    """See that the keyspace holds the tables that this program knows, all of them.

    Raises:
        SchemaError: it holds something else.
        StoreUnavailableError: it holds nothing yet.
    """
    found = tables_of(connected)
    name = shown(connected.settings)
    if not found:
        raise StoreUnavailableError(f"{name}: holds no tables yet; `headrace db init` makes them")
    check_mark(connected)
    check_types(connected)
    check_columns(name, schema.TABLES, found)


def check_types(connected: Connected) -> None:
    """See that the keyspace's types are as they were made: names alone say nothing of what is in them.

    Raises:
        SchemaError: one is missing or has other fields.
    """
    rows = connected.execute(
        "SELECT type_name, field_names, field_types FROM system_schema.types WHERE keyspace_name = %s",
        connected.settings.keyspace,
    )
    found = {str(name): dict(zip(*fields, strict=True)) for name, *fields in rows}
    for name, fields in schema.TYPES.items():
        is_there = found.get(name, {})
        if list(is_there.items()) != list(fields.items()):
            raise SchemaError(
                f"{shown(connected.settings)}: type {name} is not as it was made"
                f" ({_differences(fields, is_there)}); nothing is written until it is"
            )


def check_columns(
    name: str, tables: Mapping[str, schema.Table], found: Mapping[str, Mapping[str, str]]
) -> None:
    """See that these tables are there, as they were made.

    Raises:
        SchemaError: one is missing, has other columns, or another key.
    """
    for table, columns in tables.items():
        if table not in found:
            raise SchemaError(f"{name}: table {table} is missing; nothing is written until it is there again")
        made = schema.as_made(columns)
        if found[table] != made:
            raise SchemaError(
                f"{name}: table {table} is not as it was made ({_differences(made, found[table])});"
                " nothing is written until it is"
            )


def _differences(made: Mapping[str, str], found: Mapping[str, str]) -> str:
    """What is missing, too much, or something else; where nothing is, the order differs."""
    words = [f"{name} is missing" for name in made if name not in found]
    words += [f"{name} was added" for name in found if name not in made]
    words += [
        f"{name} is {found[name]}, not {made[name]}"
        for name in made.keys() & found.keys()
        if found[name] != made[name]
    ]
    return "; ".join(sorted(words)) or f"its order is {', '.join(found)}, not {', '.join(made)}"


def check_mark(connected: Connected) -> bool:
    """See that the keyspace says it is ours, of this version, with buckets as wide as configured.

    Returns:
        Whether all tables were made once; False where their making was interrupted.
    """
    settings, name = connected.settings, shown(connected.settings)
    if "headrace" not in tables_of(connected):
        raise SchemaError(
            f"{name}: is another program's keyspace; set storage.cassandra.keyspace to one of its own"
        )
    marks = dict(connected.execute(f"SELECT key, value FROM {settings.keyspace}.headrace"))  # noqa: S608  # checked
    version = marks.get("version", str(schema.VERSION))  # a maker that was interrupted wrote none yet
    if version != str(schema.VERSION):
        raise SchemaError(
            f"{name}: holds version {version} of the tables, this program knows version {schema.VERSION}; "
            "use the program that made it, or set storage.cassandra.keyspace to a new one"
        )
    hours = marks.get("bucket_hours", str(settings.bucket_hours))
    if hours != str(settings.bucket_hours):
        raise SchemaError(
            f"{name}: was made with storage.cassandra.bucket_hours = {hours}, not {settings.bucket_hours}"
        )
    return "version" in marks


def tables_of(connected: Connected) -> dict[str, dict[str, str]]:
    """The tables that the keyspace has, each with its columns and what they are; see `schema.column_is`."""
    rows = connected.execute(
        "SELECT table_name, column_name, type, kind, position, clustering_order FROM system_schema.columns"
        " WHERE keyspace_name = %s",
        connected.settings.keyspace,
    )
    found: dict[str, dict[str, str]] = {}
    for table, column, *of in rows:
        found.setdefault(str(table), {})[str(column)] = schema.column_is(*of)
    return found
