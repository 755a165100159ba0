"""One listening socket, accepted from by ourselves.

uvloop's own server closes its socket for good at the first error in accepting, and running out of file
descriptors is one. Here the socket rests a moment and goes on; who knocks meanwhile waits in the kernel's
queue. Errors that are those of one connection only are passed over (accept(2) names them); at any other the
socket rests too, since it would come at once again.

    accepting   an error of its own   rests for a second, and says so
    resting     the second is over    accepting; after ten without another rest it says that it goes on

So however long it lasts, the log has two lines of it.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Final

import structlog

from ingest.errors import ListenError

_BACKLOG: Final = 4096
_AT_ONCE: Final = 16
"""Connections accepted before others get their turn on the loop."""

_REST_S: Final = 1.0
_CALM_S: Final = 10.0

_OF_ONE: Final = frozenset(
    {
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EPROTO,
        errno.ETIMEDOUT,
    }
)
"""Errors of a connection that was gone, or forbidden by a firewall, before it was accepted."""

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
        self._calm: asyncio.TimerHandle | None = None

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
        if self._calm is not None:
            self._calm.cancel()
        self._socket.close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, address = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno in _OF_ONE:
                    continue
                self._rest(error)
                break
            sock.setblocking(False)
            self._accepted(sock, (str(address[0]), int(address[1])))

    def _rest(self, error: OSError) -> None:
        self._exhausted()
        self._loop.remove_reader(self._socket)
        self._timer = self._loop.call_later(_REST_S, self.start)
        if self._calm is None:
            _log.error("listener_rests", port=self.port, reason=error.strerror)
        else:
            self._calm.cancel()
        self._calm = self._loop.call_later(_CALM_S, self._goes_on)

    def _goes_on(self) -> None:
        self._calm = None
        _log.info("listener_goes_on", port=self.port)


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


def _listen(
    sock: socket.socket, address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(address)
    sock.listen(_BACKLOG)
    sock.setblocking(False)
