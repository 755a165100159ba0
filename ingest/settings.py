"""`[ingest]` and `[journal]`: how machines are listened to, and where their bytes are kept first."""

from typing import Annotated, Final, Literal

import msgspec

from ingest.addresses import parsed_network
from parser.block import MAX_NODE
from parser.reference import read_device_id
from storage.files import WithPath, check_paths

_Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]

MIB: Final = 1 << 20
MIN_JOURNAL_BYTES: Final = 16 * MIB


class IngestSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[ingest]`: the listeners and what a connection may do."""

    node_id: Annotated[int, msgspec.Meta(ge=0, le=MAX_NODE)] = 0
    """This server's number among all that write into one database; part of every row's `seq`."""

    host: str = "127.0.0.1"
    """The address to listen on; `0.0.0.0` for all."""

    port: _Port = 9400
    """Where machines connect; 0 takes a free port and says which."""

    ack_port: _Port | None = None
    """Where senders connect that want acknowledgements, not `port`; no such listener unless set."""

    max_connections: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    """Connections at one time, on both listeners together; further ones are refused."""

    idle_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 3600.0
    """A connection that sent nothing for this long is closed; time paused by us does not count."""

    max_record_bytes: Annotated[int, msgspec.Meta(ge=32, le=65536)] = 512
    """A longer record is a reject, its beginning kept."""

    tick_ms: Annotated[float, msgspec.Meta(ge=1, le=10_000)] = 20.0
    """How long bytes are gathered into one block; more spares a flash card, and delays."""

    end_of_stream: Literal["record", "reject"] = "record"
    """What follows the last delimiter at a clean close: a record if it is complete, or a reject."""

    allow: tuple[str, ...] = ()
    """Networks (CIDR) that may connect; everybody where it is empty."""

    share_port: bool = False
    """Whether other servers of this user on this host may listen on the same ports (SO_REUSEPORT)."""

    # Shares: what one connection, address or identity may take.

    max_connections_per_address: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Connections at one time of one address (with IPv6 of one /64); no bound of its own without it."""

    max_connects_per_minute: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """How often one address may connect, all at once or spread over the minute; no bound without it."""

    max_connections_per_identity: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Connections at one time of who proved to be the same; no bound of its own without it."""

    max_records_per_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """What one connection may send in a second; above it reading from it pauses. No bound without it."""

    max_bytes_per_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """The same in bytes."""

    first_record_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    """A connection over which no whole record came for this long since it was made is closed."""

    record_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """A connection with a record that was begun so long ago and is not whole is closed."""

    keepalive_s: Annotated[int, msgspec.Meta(ge=1, le=32767)] = 60
    """Silence after which the kernel asks whether the other side is there; it is gone half as much later."""
    tls_cert: str | None = None
    """A PEM file with the server's certificate, and those between it and its authority; with it both
    listeners speak TLS and nothing else."""

    tls_key: str | None = None
    """A PEM file with the certificate's key, without a password."""

    tls_client_ca: str | None = None
    """A PEM file with the authorities that machines' certificates are from; with it each has to show one,
    and what it is for is the connection's identity."""

    tls_client_crl: str | None = None
    """A PEM file with the lists of revoked certificates of those authorities, one of each; with it nobody is
    let in with a certificate that is on them. Read anew at SIGHUP, which also cuts off who is there."""

    handshake_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=300)] = 5.0
    """How long a TLS handshake may take."""

    bind_identity: bool = False
    """Whether a record is a reject (`wrong_identity`) whose device is not the connection's identity, nor one
    that `identities` lists for it."""

    identities: dict[str, tuple[str, ...]] = {}
    """By identity: devices that it may send for beside the one of its own name."""

    def __post_init__(self) -> None:
        """Refuse a host and networks that are none, one port for two listeners, and half a TLS.

        Raises:
            ValueError: the message begins with the key.
        """
        _check_tls(self)
        if not _can_be_host(self.host):
            raise ValueError(f"host: {self.host!r} is no address, and no name of a host")
        if self.ack_port and self.ack_port == self.port:
            raise ValueError(
                f"ack_port: {self.ack_port} is port already, where nobody is acknowledged anything"
            )
        for network in self.allow:
            try:
                parsed_network(network)
            except ValueError as error:
                raise ValueError(f"allow: {error}; for example '192.168.7.0/24'") from None

    def devices_of(self, identity: str | None) -> tuple[str, ...]:
        """The devices that may be sent for with this identity, where `bind_identity` is on."""
        return () if identity is None else (identity, *self.identities.get(identity, ()))


def _can_be_host(text: str) -> bool:
    try:
        return b"\0" not in text.encode("idna")
    except UnicodeError:
        return False


def _check_tls(settings: IngestSettings) -> None:
    check_paths(settings, "tls_cert", "tls_key", "tls_client_ca", "tls_client_crl")
    if settings.tls_cert is None and settings.tls_key is not None:
        raise ValueError("tls_cert: is needed beside tls_key")
    if settings.tls_key is None and settings.tls_cert is not None:
        raise ValueError("tls_key: is needed beside tls_cert")
    if settings.tls_client_ca is not None and settings.tls_cert is None:
        raise ValueError("tls_client_ca: needs tls_cert and tls_key")
    if settings.tls_client_crl is not None and settings.tls_client_ca is None:
        raise ValueError("tls_client_crl: needs tls_client_ca, whose lists these are")
    if settings.bind_identity and settings.tls_client_ca is None:
        raise ValueError("bind_identity: needs tls_client_ca, by which machines prove who they are")
    if settings.identities and not settings.bind_identity:
        raise ValueError("identities: needs bind_identity = true")
    for device in (device for devices in settings.identities.values() for device in devices):
        if read_device_id(device.encode()) is None:
            raise ValueError(f"identities: {device!r} is no device; 1 to 64 printable ASCII characters")


class JournalSettings(WithPath, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[journal]`: where blocks are durable before anything looks inside them."""

    path: str = "data/journal"
    """A folder of its own, made where it is missing."""

    max_bytes: Annotated[int, msgspec.Meta(ge=MIN_JOURNAL_BYTES)] = 4096 * MIB
    """Its bound on disk; when the sinks are so far behind that it is reached, reading pauses."""

    keep_hours: Annotated[float, msgspec.Meta(ge=0, le=876_000)] = 0.0
    """How long blocks stay that every sink has passed, within `max_bytes`."""
