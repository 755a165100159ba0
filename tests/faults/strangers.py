"""Clients that no shop floor needs: they come in numbers, say nothing, or say it a byte at a time."""

import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from tests.faults.waiting import wait_until

_SPARE = 200


def allow_descriptors(count: int) -> None:
    """Let this process open so many, and some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count + _SPARE, hard)), hard))


@contextmanager
def crowd(port: int, count: int) -> Iterator[list[socket.socket]]:
    """So many connections that say nothing; closed in the end."""
    allow_descriptors(count)
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            sockets.append(socket.create_connection(("127.0.0.1", port), timeout=30))
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def closed(sock: socket.socket) -> bool:
    """Whether the other side has closed it, or reset it."""
    try:
        return not sock.recv(4096, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


class Dribble(threading.Thread):
    """Sends a byte on each of these connections every now and then, until all are closed."""

    def __init__(self, sockets: list[socket.socket], *, every_s: float = 0.1) -> None:
        super().__init__(name="dribble", daemon=True)
        self._open = list(sockets)
        self._every_s = every_s
        self._over = threading.Event()

    def run(self) -> None:
        """The thread."""
        while not self._over.wait(self._every_s):
            for sock in list(self._open):
                try:
                    sock.send(b"1")
                except OSError:
                    self._open.remove(sock)

    def __enter__(self) -> Self:
        """Begin."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send no more."""
        self._over.set()
        self.join(10)


def wait_closed(sockets: list[socket.socket], what: str, seconds: float = 60.0) -> None:
    """Wait until the other side has closed all of them."""
    left = list(sockets)

    def all_closed() -> bool:
        left[:] = [sock for sock in left if not closed(sock)]
        return not left

    wait_until(all_closed, f"{what} are closed", seconds)
