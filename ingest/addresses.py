"""Addresses of IP, as they are let in and counted.

Whoever holds a /64 of IPv6 has more addresses than anybody could count, so that much is one address where
addresses are counted.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

_PREFIX_BYTES: Final = 8
"""Of an IPv6 address: what a site gets at least."""

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
"""All of IPv4, as an IPv6 socket shows it."""


def parsed(host: str) -> IPv4Address | IPv6Address | None:
    """The address however it is written: IPv4 also on an IPv6 socket, link-local also with its interface."""
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def parsed_network(text: str) -> IPv4Network | IPv6Network:
    """The network however it is written: one of IPv4 also as its addresses are on an IPv6 socket.

    Raises:
        ValueError: it is none.
    """
    found = ip_network(text)
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        mapped = IPv4Address(found.network_address.packed[-4:])
        return IPv4Network((mapped, found.prefixlen - _MAPPED.prefixlen))
    return found


def counted_as(host: str) -> bytes:
    """What is counted as one address; IPv4 is as it is written, being the most."""
    found = parsed(host) if ":" in host else None
    if isinstance(found, IPv6Address):
        return found.packed[:_PREFIX_BYTES]
    return (host if found is None else str(found)).encode()
