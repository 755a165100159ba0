"""Where the pages and the API are served."""

from typing import Annotated

import msgspec


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[http]`: the address of the pages and the API."""

    host: str = "127.0.0.1"
    """The address to listen on; pages are reachable from this machine only unless it says otherwise."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 9480
    """The port to listen on; 0 takes any free one."""


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client may take, so that none costs the others; not configurable."""

    header_timeout_s: float = 10.0
    """A request that isn't complete by then is closed."""

    stall_timeout_s: float = 30.0
    """A client that hasn't taken the bytes waiting for it by then is closed."""

    keep_alive_s: int = 15
    """How long a connection may stand idle between two requests."""

    stop_timeout_s: int = 3
    """How long answers under way may take when the server stops."""

    max_connections: int = 512
    """Above this many open connections, requests are answered with 503."""

    max_header_bytes: int = 16 * 1024
    """Of a request's line and headers together."""
