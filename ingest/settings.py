"""`[ingest]` and `[journal]`: how machines are listened to, and where their bytes are kept first."""

from ipaddress import ip_network
from typing import Annotated, Final, Literal

import msgspec

from parser.block import MAX_NODE

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
    """Where senders connect that want acknowledgements; no such listener unless set."""

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

    def __post_init__(self) -> None:
        """Refuse networks that are none.

        Raises:
            ValueError: the message begins with the key.
        """
        for network in self.allow:
            try:
                ip_network(network)
            except ValueError as error:
                raise ValueError(f"allow: {error}; for example '192.168.7.0/24'") from None


class JournalSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[journal]`: where blocks are durable before anything looks inside them."""

    path: str = "data/journal"
    """A folder of its own, made where it is missing."""

    max_bytes: Annotated[int, msgspec.Meta(ge=MIN_JOURNAL_BYTES)] = 4096 * MIB
    """Its bound on disk; when the sinks are so far behind that it is reached, reading pauses."""

    keep_hours: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """How long blocks stay that every sink has passed, within `max_bytes`."""
