"""Clients that no shop floor needs: they come in numbers, say nothing, or say it a byte at a time."""

import resource
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from tests.faults import wire
from tests.faults.waiting import wait_until

_SPARE = 200


def allow_descriptors(count: int) -> None:
    """Let this process open so many, and some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count + _SPARE, hard)), hard))


@contextmanager
def crowd(
    port: int, count: int, *, shakes_hands: bool = True, source: str | None = None
) -> Iterator[list[wire.Line]]:
    """So many connections that say nothing, not even by TLS without `shakes_hands`; closed in the end.

    `source` is the address that they come from; the kernel's choice has room for more of them.
    """
    allow_descriptors(count)
    lines: list[wire.Line] = []
    try:
        while len(lines) < count:
            lines.append(_knock(port, source, wire.current() if shakes_hands else wire.PLAIN))
        yield lines
    finally:
        for line in lines:
            line.close()


def _knock(port: int, source: str | None, over: wire.Wire) -> wire.Line:
    """A connection; where the server closed it before it came to TLS, it is there as it is: closed."""
    place = None if source is None else (source, 0)
    sock = socket.create_connection(("127.0.0.1", port), timeout=60, source_address=place)
    try:
        return over.over(sock)
    except (ConnectionError, ssl.SSLError):
        return sock


def closed(line: wire.Line) -> bool:
    """Whether the other side has closed it, or reset it; it is not waited for any more."""
    try:
        line.settimeout(0)
        return not line.recv(4096)
    except BlockingIOError:
        return False
    except OSError:
        return True


class Dribble(threading.Thread):
    """Sends a byte on each of these connections every now and then, until all are closed."""

    def __init__(self, lines: list[wire.Line], *, every_s: float = 0.1) -> None:
        super().__init__(name="dribble", daemon=True)
        self._open = list(lines)
        self._every_s = every_s
        self._over = threading.Event()

    def run(self) -> None:
        """The thread."""
        while not self._over.wait(self._every_s):
            for line in list(self._open):
                try:
                    line.sendall(b"1")
                except OSError:
                    self._open.remove(line)

    def __enter__(self) -> Self:
        """Begin."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send no more."""
        self._over.set()
        self.join(10)


def wait_closed(lines: list[wire.Line], what: str, seconds: float = 60.0) -> None:
    """Wait until the other side has closed all of them."""
    left = list(lines)

    def all_closed() -> bool:
        left[:] = [line for line in left if not closed(line)]
        return not left

    wait_until(all_closed, f"{what} are closed", seconds)
