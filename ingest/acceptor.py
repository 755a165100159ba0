"""One listening socket, accepted from by ourselves.

uvloop's own server closes its socket for good at the first error in accepting, and running out of file
descriptors is one. Here the socket rests a moment and goes on; who knocks meanwhile waits in the kernel's
queue. Errors that are those of one connection only are passed over (accept(2) names them); at any other the
socket rests too, since it would come at once again.

    accepting   an error of its own   rests for a second, and says so
    resting     the second is over    accepting; after ten without another rest it says that it goes on

So however long it lasts, the log has two lines of it.

Closing a listening socket resets who has connected but waits to be accepted, and who is half-way through the
kernel's handshake. So before it closes on a port that another server shares, the socket lets those on their
way arrive while a filter of the kernel (socket-filter(7)) drops the first packet of everybody new: that is
sent again after a second (RFC 6298, 2.1), and reaches the other server then.
"""

import asyncio
import ctypes
import errno
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
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

_SO_ATTACH_FILTER: Final = 26
_NO_NEWCOMERS: Final = (
    (0x30, 0, 0, 13),  # load the byte of TCP's flags (RFC 9293, 3.1)
    (0x54, 0, 0, 0x12),  # keep SYN and ACK of it
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # then keep nothing of the packet,
    (0x06, 0, 0, 0xFFFF_FFFF),  # else all of it
)
"""A program of classic BPF, as instructions: code, jump if true, jump if false, operand."""

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
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        """`accepted` owns each socket it gets; `exhausted` is called at each rest.

        Nobody is accepted while it is `crowded`, which is asked again at each turn of the loop.
        """
        self._socket = listening
        self._accepted = accepted
        self._exhausted = exhausted
        self._crowded = crowded
        self._asked = False
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

    def leave_newcomers(self) -> None:
        """Have the kernel pass over who begins to connect from now on; who has begun is still accepted."""
        code = b"".join(struct.pack("=HBBI", *instruction) for instruction in _NO_NEWCOMERS)
        kept = ctypes.create_string_buffer(code, len(code))  # read while the option is set, not after
        program = struct.pack("@HP", len(_NO_NEWCOMERS), ctypes.addressof(kept))
        with suppress(OSError):  # a kernel without filters: then a few are reset
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def finish(self) -> None:
        """Accept who has connected already, then close: the kernel resets whoever still waits there."""
        if self.open:
            self._take(_BACKLOG)
        self.close()

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
        if self._crowded():
            self._ask_again()
            return
        lacking = self._take(_AT_ONCE)
        if lacking is not None:
            self._rest(lacking)

    def _take(self, most: int) -> OSError | None:
        """Accept who waits, so many at most; what was lacking to accept them all."""
        for _ in range(most):
            try:
                sock, address = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno in _OF_ONE:
                    continue
                return error
            sock.setblocking(False)
            self._accepted(sock, (str(address[0]), int(address[1])))
        else:  # more may wait already, and of them the loop says nothing until the next one knocks
            self._ask_again()
        return None

    def _ask_again(self) -> None:
        if not self._asked:
            self._asked = True
            self._loop.call_soon(self._accept_more)

    def _accept_more(self) -> None:
        self._asked = False
        if self.open and self._timer is None:
            self._accept()

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


async def listening_sockets(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """Listening sockets on every address that the host has, all on one port.

    With `shared` other processes of the same user can listen there too, if they also share.

    Raises:
        ListenError: there is one that can't be listened on.
    """
    return await _sockets(host, port, shared=shared, listen=True)


async def reserved_sockets(host: str, port: int, *, shared: bool) -> list[socket.socket]:
    """The same sockets, but nobody can connect to them: they keep the port for who shares it.

    Raises:
        ListenError: one can't be had.
    """
    return await _sockets(host, port, shared=shared, listen=False)


async def _sockets(host: str, port: int, *, shared: bool, listen: bool) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
            sockets.append(socket.socket(family, socket.SOCK_STREAM))
            _bind(sockets[-1], (address[0], port, *address[2:]), shared=shared)
            port = sockets[-1].getsockname()[1]
            if listen:
                sockets[-1].listen(_BACKLOG)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise ListenError(
            f"can't listen on {host} port {port} ({error.strerror or error}); is another server running?"
        ) from error
    except UnicodeError as error:  # before anybody is asked for it
        raise ListenError(f"can't listen on {host} port {port}: that is no name of a host") from error
    return sockets


def _bind(sock: socket.socket, address: tuple[str | int, ...], *, shared: bool) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(address)
    sock.setblocking(False)
