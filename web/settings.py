"""Where the pages and the API are served."""

from typing import Annotated, Final

import msgspec

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[http]`: the address of the pages and the API."""

    host: str = "127.0.0.1"
    """The address to listen on; pages are reachable from this machine only unless it says otherwise."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 9480
    """The port to listen on; 0 takes any free one."""

    login: bool = True
    """Whether people log in and programs send tokens; without it everybody who reaches the address may do
    everything, so that is for loopback only."""

    https: bool = False
    """Whether a proxy in front makes it HTTPS: then the session's cookie is never sent without."""

    max_connections_per_address: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Connections at one time of one address (with IPv6 of one /64); no bound of its own without it. Behind a
    proxy all come from the proxy's."""

    def __post_init__(self) -> None:
        """Refuse an open server that others can reach.

        Raises:
            ValueError: the message begins with the key.
        """
        if not self.login and self.host not in _LOOPBACK:
            raise ValueError(f"login: can be off on loopback only, and host is {self.host}")


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
    """Whoever comes when so many are open is closed at once."""

    max_header_bytes: int = 16 * 1024
    """Of a request's line and headers together, to the next 4 KiB."""
