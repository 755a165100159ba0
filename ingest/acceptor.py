"""One listening socket, accepted from by ourselves.

uvloop's own server closes its socket for good at the first error in accepting, and running out of file
descriptors is one. Here the socket rests a moment and goes on; who knocks meanwhile waits in the kernel's
queue.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Final

import structlog

from ingest.errors import ListenError

_BACKLOG: Final = 4096
_AT_ONCE: Final = 64
"""Connections accepted before others get their turn on the loop."""

_REST_S: Final = 1.0
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = structlog.get_logger("ingest")

Address = tuple[str, int]
"""Of a peer: host and port."""


class Acceptor:
    """Accepts until it is closed."""

    def __init__(
        self,
        listening: socket.socket,
        accepted: Callable[[socket.socket, Address], None],
        *,
        exhausted: Callable[[], None],
    ) -> None:
        """`accepted` owns each socket it gets; `exhausted` is called at each rest."""
        self._socket = listening
        self._accepted = accepted
        self._exhausted = exhausted
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._rests = False

    @property
    def port(self) -> int:
        """The real one."""
        return int(self._socket.getsockname()[1])

    @property
    def open(self) -> bool:
        """Whether somebody can connect."""
        return self._socket.fileno() >= 0

    def start(self) -> None:
        """Accept from now on."""
        self._timer = None
        self._loop.add_reader(self._socket, self._accept)

    def close(self) -> None:
        """Accept nobody any more; may be called again."""
        if self._timer is not None:
            self._timer.cancel()
        elif self.open:
            self._loop.remove_reader(self._socket)
        self._socket.close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, address = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest(error)
                    return
                continue  # this one was gone before it was accepted
            sock.setblocking(False)
            self._accepted(sock, (str(address[0]), int(address[1])))
        else:  # more may wait already, and of them the loop says nothing until the next one knocks
            self._loop.call_soon(self._accept_more)
        if self._rests:
            self._rests = False
            _log.info("listener_goes_on", port=self.port)

    def _accept_more(self) -> None:
        if self.open and self._timer is None:
            self._accept()

    def _rest(self, error: OSError) -> None:
        self._exhausted()
        self._loop.remove_reader(self._socket)
        self._timer = self._loop.call_later(_REST_S, self.start)
        if not self._rests:
            self._rests = True
            _log.error("listener_rests", port=self.port, reason=error.strerror)


async def listening_sockets(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on every address that the host has.

    Raises:
        ListenError: there is one that can't be listened on.
    """
    sockets: list[socket.socket] = []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
            sockets.append(socket.socket(family, socket.SOCK_STREAM))
            _listen(sockets[-1], address)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise ListenError(
            f"can't listen on {host} port {port} ({error.strerror or error}); is another server running?"
        ) from error
    return sockets


def _listen(sock: socket.socket, address: tuple[str, int] | tuple[str, int, int, int]) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(address)
    sock.listen(_BACKLOG)
    sock.setblocking(False)
