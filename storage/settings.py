"""`[storage]`: where rows are kept, for how long, and how many rejects are kept whole."""

from typing import Annotated, Final, Literal

import msgspec

from storage.files import WithPath, check_paths

_Count = Annotated[int, msgspec.Meta(ge=0)]
_SQLITE_LINGER_S: Final = 0.1


class SqliteSettings(WithPath, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[storage.sqlite]`: the embedded database."""

    path: Annotated[str, msgspec.Meta(min_length=1)] = "data/headrace.db"
    """Its file; `-wal` and `-shm` lie beside it while it is open."""


class CassandraSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[storage.cassandra]`: a cluster. The password comes from `HEADRACE_CASSANDRA_PASSWORD`."""

    contact_points: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("127.0.0.1",)
    """Some of its nodes; the others are found through them."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 9042
    """Of the native protocol, on every node."""

    keyspace: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]{0,47}$")] = "headrace"
    """Where the tables are; made where there is none."""

    local_datacenter: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """The datacenter to talk to; without it that of the first contact point."""

    replication_factor: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1
    """Copies of each row, in the datacenter of who makes the keyspace; used then only."""

    consistency: Literal["ONE", "LOCAL_ONE", "QUORUM", "LOCAL_QUORUM", "EACH_QUORUM", "ALL"] = "LOCAL_QUORUM"
    """How many copies have to confirm a write, and to be asked by a read."""

    bucket_hours: Annotated[int, msgspec.Meta(ge=1, le=168)] = 1
    """How many hours of a machine are one partition; fixed when the tables are made."""

    username: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """Who to log in as; without it nobody logs in."""

    tls_ca: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """The authority that signed the nodes' certificates; with it all connections are TLS."""

    tls_cert: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """Our own certificate, where the nodes ask for one."""

    tls_key: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """Its key."""

    linger_ms: Annotated[float, msgspec.Meta(ge=0, le=10_000)] = 500.0
    """How long rows wait for others, so that batches are fat; they are in the journal already."""

    max_in_flight: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 64
    """Requests under way at one time, at most; how many there are follows what the cluster can take."""

    def __post_init__(self) -> None:
        """Refuse half an identity, and paths that can be none.

        Raises:
            ValueError: the message begins with the key.
        """
        check_paths(self, "tls_ca", "tls_cert", "tls_key")
        if (self.tls_cert is None) is not (self.tls_key is None):
            raise ValueError("tls_cert: comes with tls_key, or neither is set")
        if self.tls_cert is not None and self.tls_ca is None:
            raise ValueError("tls_cert: needs tls_ca; without it there is no TLS")


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

    backend: Literal["sqlite", "cassandra"] = "sqlite"
    """Which kind of database."""

    keep_days: Annotated[float, msgspec.Meta(gt=0, le=36_500)] | None = None
    """Rows received longer ago are deleted, in whole minutes; without it they stay for ever."""

    sqlite: SqliteSettings = SqliteSettings()

    cassandra: CassandraSettings = CassandraSettings()

    rejects: RejectQuota = RejectQuota()

    @property
    def linger_s(self) -> float:
        """How long a sink that keeps up waits for more before it writes."""
        return self.cassandra.linger_ms / 1000 if self.backend == "cassandra" else _SQLITE_LINGER_S

    @property
    def batch_bytes(self) -> int:
        """How much a sink that is behind writes in one step, about.

        A cluster has nothing to do from the last rows of a step to the first of the next; a transaction of
        SQLite holds up readers of the file's log.
        """
        return (24 if self.backend == "cassandra" else 8) << 20
