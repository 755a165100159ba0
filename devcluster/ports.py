"""Ports that are free, and stay so: none from the range that the kernel gives to outgoing connections.

A client that tries a closed port of that range again and again is some day given the very port as its own,
and is connected to itself; then the node that it waits for can't have it back.
"""

import errno
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path

_LOWEST = 10_000
_TRIES = 1000


def take_free(addresses: Sequence[str]) -> int:
    """A port that is free on all these addresses."""
    below = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    highest = below if below > _LOWEST + _TRIES else 65_536
    for _ in range(_TRIES):
        port = _LOWEST + secrets.randbelow(highest - _LOWEST)
        if all(is_free(address, port) for address in addresses):
            return port
    raise OSError(errno.EADDRINUSE, "no free port found")


def is_free(address: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
            listener.listen(1)
        except OSError:
            return False
    return True
