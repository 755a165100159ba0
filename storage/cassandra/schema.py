"""The tables in Cassandra, and how a keyspace says that it holds them.

The table `headrace` says which version of the tables the keyspace holds and how wide a bucket is. A
keyspace with other tables is somebody else's and is never touched, one of another version neither.

`readings` has one partition for a device and a bucket (an hour, unless made otherwise), newest first. The
five values are one frozen value, because the server pays for each cell (the part `shape` of
`headrace bench cassandra` measures it against five columns). Rows expire together in time windows, about
thirty in their life, so that whole files are dropped instead of being merged.

What is listed by node lies in partitions of a day, and `days` says which there are, as `device_buckets`
says of devices: nobody has to search for partitions. docs/tables.md explains every column to those who
read them.
"""

import re
from typing import Final, NamedTuple

VERSION: Final = 1
VALUES: Final = (
    "spindle_temperature_c double, spindle_speed_rpm double, coolant_flow_lpm double,"
    " power_kw double, voltage_v double"
)
SHARDS: Final = 16
EXPIRES_LATER_S: Final = 3_600
"""So much longer than their bucket is kept do rows live; see `life_s`."""

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000

_ASKED_ANEW: Final = "MIN(99PERCENTILE,200MS)"
"""When a node that has to read asks one more copy. By itself it waits for as long as its slowest reads took,
which for minutes are the first ones, of a second or more. Compare-and-set reads too, and has two seconds in
all: none would succeed while a node stands still that the others don't hold for dead yet, for about 20 s."""

_DAY_S: Final = 86_400
_HOUR_S: Final = 3_600
_WINDOWS: Final = 30
_DAY_HOURS: Final = 24

MARK: Final = "CREATE TABLE IF NOT EXISTS headrace (key text PRIMARY KEY, value text)"


class Table(NamedTuple):
    """A table: its columns with their types, its key, and how rows lie within a partition."""

    columns: dict[str, str]
    key: str
    order: str = ""


def columns_of(text: str) -> dict[str, str]:
    """Columns and types from `name type, name type, ...`, with no comma inside a type."""
    return {name: kind for name, _, kind in (part.strip().partition(" ") for part in text.split(","))}


TYPES: Final = {"reading": columns_of(VALUES)}
"""The user-defined types: their fields in their order."""

_OF_ROW: Final = "received_at timestamp, seq bigint, reading frozen<reading>"
_COUNTS: Final = "stored bigint, rejected bigint, unkept bigint, empty bigint"
_BOOK: Final = "accepted set<bigint>, next_record bigint"

TABLES: Final = {
    "readings": Table(
        columns_of(f"device_id text, bucket timestamp, {_OF_ROW}"),
        "(device_id, bucket), received_at, seq",
        "received_at DESC, seq DESC",
    ),
    "device_buckets": Table(
        columns_of("device_id text, bucket timestamp"), "device_id, bucket", "bucket DESC"
    ),
    "latest_readings": Table(
        columns_of(f"shard int, device_id text, node int, {_OF_ROW}"), "shard, device_id, node"
    ),
    "rejected_records": Table(
        columns_of(
            "node int, day timestamp, seq bigint, received_at timestamp, connection bigint, peer text,"
            " reason text, field text, device_id text, place bigint, raw blob"
        ),
        "(node, day), seq",
        "seq DESC",
    ),
    "set_aside_records": Table(
        columns_of(f"node int, day timestamp, device_id text, {_OF_ROW}, why text"),
        "(node, day), seq",
        "seq DESC",
    ),
    "connections": Table(
        columns_of(
            "node int, day timestamp, connection bigint, opened_at timestamp, closed_at timestamp, why text,"
            f" peer text, identity text, bytes bigint, {_COUNTS}, unterminated bigint, {_BOOK}"
        ),
        "(node, day), connection",
        "connection DESC",
    ),
    "ledger": Table(
        columns_of(
            "node int, day timestamp, minute timestamp, first_seq bigint, last_seq bigint,"
            f" {_COUNTS}, set_aside bigint, {_BOOK}"
        ),
        "(node, day), minute",
        "minute DESC",
    ),
    "days": Table(columns_of("node int, day timestamp"), "node, day", "day DESC"),
    "nodes": Table(
        columns_of(
            "node int, journal text, owner text static, next_record bigint static, block bigint,"
            " record bigint, durable_block bigint, durable_record bigint"
        )
        | {"generations": "map<uuid, int> static"},
        "node, journal",
    ),
    "purged": Table(
        columns_of(
            "node int, before timestamp, last_seq bigint, ledger_stored bigint, ledger_rejected bigint,"
            " ledger_unkept bigint, ledger_empty bigint, connections_stored bigint,"
            " connections_rejected bigint, connections_unkept bigint, connections_empty bigint"
        ),
        "node",
    ),
}

_EXPIRING: Final = frozenset({"readings", "rejected_records", "set_aside_records"})


def keyspace_cql(keyspace: str, datacenter: str, replication_factor: int) -> str:
    """The statement that makes the keyspace."""
    return (
        f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication ="
        f" {{'class': 'NetworkTopologyStrategy', '{datacenter}': {replication_factor}}}"
    )


def type_cql(name: str) -> str:
    """The statement that makes one of the types."""
    fields = ", ".join(f"{field} {kind}" for field, kind in TYPES[name].items())
    return f"CREATE TYPE IF NOT EXISTS {name} ({fields})"


def create_cql(name: str, table: Table, compaction: str = "") -> str:
    """The statement that makes any table; those without a compaction of their own are small."""
    columns = ", ".join(f"{column} {kind}" for column, kind in table.columns.items())
    options = [f"CLUSTERING ORDER BY ({table.order})"] if table.order else []
    options.append(f"compaction = {compaction}" if compaction else f"speculative_retry = '{_ASKED_ANEW}'")
    body = f"CREATE TABLE IF NOT EXISTS {name} ({columns}, PRIMARY KEY ({table.key}))"
    return f"{body} WITH {' AND '.join(options)}"


def as_made(table: Table) -> dict[str, str]:
    """What each column of a table is when it is made: its type, and its place in the key; see `column_is`."""
    first, _, rest = table.key.strip("(").partition(")" if table.key.startswith("(") else ",")
    places = {
        name: (kind, position)
        for kind, names in (("partition_key", first), ("clustering", rest))
        for position, name in enumerate(re.findall(r"\w+", names))
    }
    descending = re.findall(r"(\w+) DESC", table.order)
    found = {}
    for name, kind in table.columns.items():
        of = kind.removesuffix(" static")
        place = places.get(name, ("regular" if of == kind else "static", -1))
        found[name] = column_is(of, *place, "desc" if name in descending else "asc")
    return found


def column_is(kind: str, place: str, position: int, order: str) -> str:
    """A column in words, from what `system_schema.columns` says: type, kind, position, clustering order."""
    if place == "partition_key":
        return f"{kind}, partition {position + 1}"
    if place == "clustering":
        return f"{kind}, clustering {position + 1} {order}"
    return kind if place == "regular" else f"{kind} {place}"


def table_cql(name: str, keep_days: float | None) -> str:
    """The statement that makes one of the telemetry's tables."""
    return create_cql(name, TABLES[name], _windows(keep_days) if name in _EXPIRING else "")


def _windows(keep_days: float | None) -> str:
    """Time windows, so that about thirty cover the life of a row; of a day where rows live for ever."""
    hours = _DAY_HOURS if keep_days is None else max(1, round(keep_days * _DAY_HOURS / _WINDOWS))
    return (
        "{'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'HOURS',"
        f" 'compaction_window_size': {hours}}}"
    )


def expiring(insert: str, life_s: int | None) -> tuple[str, tuple[int, ...]]:
    """The statement with a time to live, and what to bind for it at the end; unchanged where that is None.

    0 is for ever.
    """
    return (insert, ()) if life_s is None else (f"{insert} AND TTL ?", (life_s,))


def life_s(keep_days: float, bucket_hours: int) -> int:
    """How long rows live, in seconds: until all of their bucket are old, and an hour more.

    By then they are deleted with their bucket, so that nobody meets those that have expired: each one of them
    counts for a reader as if it had been deleted by itself, and a node reads over so many only.
    """
    return round(keep_days * _DAY_S) + bucket_hours * _HOUR_S + EXPIRES_LATER_S


def day_of(ms: int) -> int:
    """The beginning of the day that holds this time, UTC."""
    return ms - ms % DAY_MS
