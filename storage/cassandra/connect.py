"""Opening a cluster, and asking it.

Protocol version 4: version 5 checks each segment of a frame once more, which costs both sides. The driver's
reactor is libev: its own wheel brings it, and the others are slower. By itself the driver tries again only
what a lost connection left open, at the next node: all that is asked here may be asked twice. What any other
unknown outcome means is our business.
"""

import logging
import os
import ssl
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID

from cassandra import OperationTimedOut, Timeout
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    Cluster,
    ExecutionProfile,
    NoHostAvailable,
    Session,
)
from cassandra.connection import ConnectionException
from cassandra.io.libevreactor import LibevConnection
from cassandra.policies import (
    ConstantReconnectionPolicy,
    DCAwareRoundRobinPolicy,
    FallthroughRetryPolicy,
    TokenAwarePolicy,
)
from cassandra.query import (
    UNSET_VALUE,
    ConsistencyLevel,
    PreparedStatement,
    SimpleStatement,
    tuple_factory,
)

from storage.cassandra.encoding import Handler
from storage.cassandra.meaning import DRIVERS, PASSWORD, shown, translated
from storage.cassandra.times import to_ms
from storage.errors import SchemaError, StoreUnavailableError
from storage.files import MAX_PEM_BYTES, read_ordinary
from storage.settings import CassandraSettings

_PROTOCOL: Final = 4
_CONNECT_S: Final = 5.0
_REQUEST_S: Final = 10.0
_SCHEMA_S: Final = 30.0
_AGREEMENT_S: Final = 60.0
_ASK_AGAIN_S: Final = 1.0
_LOOK_S: Final = 0.2
_RECONNECT_S: Final = 1.0
_HEARTBEAT_S: Final = 4.0
"""A node that stands still keeps its connections. Two to three of these later they are given up, and what was
under way there goes to the next node; sooner than after a request's own time."""

_ASKED_AT_ONCE: Final = 64
_NOW: Final = "SELECT toTimestamp(now()) FROM system.local"

_LATE: Final = (OperationTimedOut, Timeout)

logging.getLogger("cassandra").setLevel(logging.CRITICAL)  # what goes wrong comes back to us as errors


def _all_pages(future: Any) -> list[tuple[Any, ...]] | Exception:
    """What was found, or why nothing was."""
    try:
        return list(future.result())  # asks for one page after another
    except DRIVERS as error:
        return error


def _or_raise(found: list[tuple[Any, ...]] | Exception) -> list[tuple[Any, ...]]:
    if isinstance(found, Exception):
        raise found
    return found


class _Socket(LibevConnection):  # type: ignore[misc]  # the driver ships no types
    """Sends a batch in one piece, and reads a page in a few; the driver's pieces are of 4 KiB."""

    in_buffer_size = 1 << 16
    out_buffer_size = 1 << 20


class _NextNode(FallthroughRetryPolicy):  # type: ignore[misc]  # the driver ships no types
    """So that the end of one node of several is no trouble to anybody."""

    def on_request_error(
        self, query: object, consistency: object, error: Exception, retry_num: int
    ) -> tuple[object, None]:
        """Ask the next node where the connection was lost; see the driver's `RetryPolicy`."""
        del query, consistency, retry_num
        lost = isinstance(error, ConnectionException)
        return (self.RETRY_NEXT_HOST if lost else self.RETHROW), None


class Connected:
    """A cluster with a session; one for each process and purpose.

    Raises:
        StorageError: no node can be reached, it doesn't let us in, or has no such datacenter.
    """

    def __init__(self, settings: CassandraSettings) -> None:
        self.settings = settings
        with translated(settings):
            self._cluster = _cluster(settings)
            try:
                self.session: Session = self._cluster.connect()
            except BaseException as error:
                elsewhere = _elsewhere(settings, self._cluster)
                self._cluster.shutdown()
                if elsewhere is not None and isinstance(error, NoHostAvailable):
                    raise elsewhere from error
                raise
        self.session.use_client_timestamp = False
        self.session.client_protocol_handler = Handler
        self._prepared: dict[str, PreparedStatement] = {}
        self.datacenter = settings.local_datacenter or self._datacenter()

    def execute(self, cql: str, *values: object) -> list[tuple[Any, ...]]:
        """One statement that is asked rarely; waits for all its rows."""
        statement = SimpleStatement(cql)
        with translated(self.settings):
            return list(self.session.execute(statement, values, timeout=_SCHEMA_S))

    def define(self, cql: str) -> None:
        """A change of the schema; waits until every node that is up knows it.

        The driver waits by itself, for ten seconds, and then lets the next statement fail: a cluster that has
        just started on few cores takes longer.

        Raises:
            StoreUnavailableError: the nodes don't agree, or it was closed meanwhile.
        """
        self.execute(cql)
        deadline = time.monotonic() + _AGREEMENT_S
        while (left := deadline - time.monotonic()) > 0 and not self._cluster.is_shutdown:
            if self._agreed(min(left, _ASK_AGAIN_S)):
                return
            time.sleep(_LOOK_S)
        raise StoreUnavailableError(f"{shown(self.settings)}: its nodes don't agree on the schema")

    def _agreed(self, seconds: float) -> bool:
        try:
            return bool(self._cluster.control_connection.wait_for_schema_agreement(wait_time=seconds))
        except DRIVERS:
            return False  # it is about to ask another node

    def bound(self, cql: str, *values: object) -> Any:
        """A prepared statement with its values; prepared once."""
        return self.prepared(cql).bind(values)

    def put(self, cql: str, *values: object) -> Any:
        """The same, of a statement that writes: what is None is left out.

        A null would be a tombstone, which every reader of its partition has to pass; of too many it dies.
        """
        return self.bound(cql, *(UNSET_VALUE if value is None else value for value in values))

    def is_prepared(self, cql: str) -> bool:
        """Whether binding it needs no answer of the cluster."""
        return cql in self._prepared

    def prepared(self, cql: str) -> PreparedStatement:
        """A statement that the cluster has parsed."""
        if cql not in self._prepared:
            with translated(self.settings):
                self._prepared[cql] = self.session.prepare(cql)
        return self._prepared[cql]

    def ask(self, statements: Sequence[Any], *, tries: int = 3) -> list[list[tuple[Any, ...]]]:
        """Ask several at once, a bounded number under way; the rows of each, in their order.

        What a busy node does not answer in time is asked again.
        """
        rows: list[list[tuple[Any, ...]] | Exception] = []
        waiting: deque[Any] = deque()
        for statement in statements:
            if len(waiting) == _ASKED_AT_ONCE:
                rows.append(_all_pages(waiting.popleft()))
            with translated(self.settings):
                waiting.append(self.session.execute_async(statement))
        rows += map(_all_pages, waiting)
        late = [place for place, result in enumerate(rows) if isinstance(result, _LATE)]
        if late and tries > 1:
            again = self.ask([statements[place] for place in late], tries=tries - 1)
            for place, of_late in zip(late, again, strict=True):
                rows[place] = of_late
        with translated(self.settings):
            return [_or_raise(result) for result in rows]

    def clock(self) -> int:
        """What time it is at one of the nodes, in milliseconds."""
        (rows,) = self.ask([self.bound(_NOW)])
        return to_ms(rows[0][0])

    def generations(self, *, within_s: float = _REQUEST_S) -> dict[UUID, int]:
        """When each node that answers in time was started, by its id; a new start is a greater number."""
        statement = SimpleStatement("SELECT host_id, gossip_generation FROM system.local")
        profile = self.session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, request_timeout=within_s)
        hosts = [host for host in self._cluster.metadata.all_hosts() if host.is_up is not False]
        asked = [
            self.session.execute_async(statement, execution_profile=profile, host=host) for host in hosts
        ]
        found: dict[UUID, int] = {}
        for answer in asked:
            try:
                host, generation = answer.result().one()
            except DRIVERS:
                continue  # it is asked again when it is back
            found[host] = generation
        return found

    def members(self) -> set[UUID]:
        """The ids of all nodes of our datacenter, also of those that are away."""
        hosts = self._cluster.metadata.all_hosts()
        return {host.host_id for host in hosts if host.datacenter == self.datacenter}

    def close(self) -> None:
        """Let go of the cluster."""
        self._cluster.shutdown()

    def _datacenter(self) -> str:
        row = self.execute("SELECT data_center FROM system.local")
        return str(row[0][0])


def _cluster(settings: CassandraSettings) -> Cluster:
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(settings.local_datacenter or "")),
        retry_policy=_NextNode(),
        consistency_level=sure_consistency(settings),
        serial_consistency_level=serial_consistency(settings),
        request_timeout=_REQUEST_S,
        row_factory=tuple_factory,
    )
    return Cluster(
        list(settings.contact_points),
        port=settings.port,
        protocol_version=_PROTOCOL,
        connection_class=_Socket,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=ConstantReconnectionPolicy(_RECONNECT_S, max_attempts=None),
        auth_provider=_login(settings),
        ssl_context=_tls(settings),
        compression=False,
        connect_timeout=_CONNECT_S,
        control_connection_timeout=_CONNECT_S,
        idle_heartbeat_interval=_HEARTBEAT_S,
        idle_heartbeat_timeout=_HEARTBEAT_S,
        monitor_reporting_enabled=False,
        application_name="headrace",
    )


def _elsewhere(settings: CassandraSettings, cluster: Cluster) -> SchemaError | None:
    """What is wrong if the cluster can be reached and knows of no datacenter like the one configured."""
    wanted = settings.local_datacenter
    known = sorted({host.datacenter for host in cluster.metadata.all_hosts() if host.datacenter})
    if wanted is None or not known or wanted in known:
        return None
    return SchemaError(
        f"{shown(settings)}: it has no datacenter {wanted!r} but {', '.join(known)}; "
        "see [storage.cassandra] local_datacenter"
    )


def _login(settings: CassandraSettings) -> PlainTextAuthProvider | None:
    if settings.username is None:
        return None
    password = os.environ.get(PASSWORD)
    if password is None:
        raise SchemaError(f"[storage.cassandra] username is set; its password belongs into {PASSWORD}")
    return PlainTextAuthProvider(settings.username, password)


def _tls(settings: CassandraSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer, the nodes' certificates checked with their names."""
    if settings.tls_ca is None:
        return None
    path = settings.tls_ca
    try:
        for path in filter(None, (settings.tls_ca, settings.tls_cert, settings.tls_key)):
            read_ordinary(Path(path), MAX_PEM_BYTES)
        path = settings.tls_ca
        context = ssl.create_default_context(cafile=path)
        if settings.tls_cert is not None:
            path = settings.tls_cert
            context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise SchemaError(f"{Path(path)}: no certificate can be read there: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def consistency(settings: CassandraSettings) -> int:
    """The driver's number of the configured consistency: of readings, and of pages that show tables."""
    return cast(int, ConsistencyLevel.name_to_value[settings.consistency])


def sure_consistency(settings: CassandraSettings) -> int:
    """Of all else, a majority at least: what is read, added to and written again must not be an old copy."""
    of_one = {"ONE": ConsistencyLevel.QUORUM, "LOCAL_ONE": ConsistencyLevel.LOCAL_QUORUM}
    return cast(int, of_one.get(settings.consistency, consistency(settings)))


def serial_consistency(settings: CassandraSettings) -> int:
    """For compare-and-set: within the datacenter where all the rest is."""
    local = settings.consistency.startswith("LOCAL")
    return cast(int, ConsistencyLevel.LOCAL_SERIAL if local else ConsistencyLevel.SERIAL)
