"""Addresses of IP, as they are let in and counted.

Whoever holds a /64 of IPv6 has more addresses than anybody could count, so that much is one address where
addresses are counted.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

_PREFIX_BYTES: Final = 8
"""Of an IPv6 address: what a site gets at least."""


def parsed(host: str) -> IPv4Address | IPv6Address | None:
    """The address however it is written: IPv4 also on an IPv6 socket, link-local also with its interface."""
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def counted_as(host: str) -> bytes:
    """What is counted as one address; IPv4 is as it is written, being the most."""
    found = parsed(host) if ":" in host else None
    if isinstance(found, IPv6Address):
        return found.packed[:_PREFIX_BYTES]
    return (host if found is None else str(found)).encode()
