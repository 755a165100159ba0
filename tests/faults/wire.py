"""How clients of the fault tests reach the machines' ports: plainly, or with TLS and certificates.

One wire holds for a whole test (the fixture `wire`, the option `--tls`): the harness takes from it what the
listeners are told, and every client its connection. So each test is written once, and is about both.

Python's own TLS sockets can't end one half of a connection and go on reading, which senders do to hear the
last acknowledgement. So TLS runs over buffers here, as it does in the server, with the calls of a socket:
`shutdown` and `close` say by TLS that this was all, and an end that wasn't said so is an error.
"""

import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple, Protocol, Self

from simulator.encryption import client_context
from tests.support.certificates import Certificates

_READ_BYTES: Final = 65_536
_HANDSHAKE_S: Final = 60
"""No test but that of the deadline itself is to depend on how fast a machine shakes hands."""


class Line(Protocol):
    """What tests do with a connection; a plain one is a socket."""

    def sendall(self, data: bytes, /) -> None:
        """Send all of it."""

    def recv(self, size: int, /) -> bytes:
        """What is there, at most so much; nothing at the end of the stream."""

    def shutdown(self, how: int, /) -> None:
        """Say that no more will be sent."""

    def setsockopt(self, level: int, name: int, value: int, /) -> None:
        """Of the socket."""

    def settimeout(self, seconds: float | None, /) -> None:
        """Of the socket."""

    def close(self) -> None:
        """End both halves."""

    def __enter__(self) -> Self:
        """To be closed in the end."""

    def __exit__(self, *_: object) -> None:
        """Close."""


class Wire(NamedTuple):
    """Both ends of it."""

    settings: Mapping[str, object]
    """What `[ingest]` says of it."""

    context: ssl.SSLContext | None
    """How a client connects; None where nothing is encrypted."""

    def over(self, sock: socket.socket) -> Line:
        """Speak on a connected socket.

        Raises:
            OSError: they don't come together.
        """
        return sock if self.context is None else _Encrypted(sock, self.context)

    def connect(self, port: int, timeout_s: float = 20.0) -> Line:
        """Connect to a port of this machine.

        Raises:
            OSError: nobody is there, or they don't come together.
        """
        return self.over(socket.create_connection(("127.0.0.1", port), timeout_s))


PLAIN: Final = Wire({}, None)


def encrypted(certificates: Certificates) -> Wire:
    """TLS, with the plant's certificates on both sides."""
    gateway = certificates.devices["gateway-1"]
    return Wire(
        {
            "tls_cert": str(certificates.server.certificate),
            "tls_key": str(certificates.server.key),
            "tls_client_ca": str(certificates.ca),
            "handshake_timeout_s": _HANDSHAKE_S,
        },
        client_context(certificates.ca, gateway.certificate, gateway.key),
    )


class _Current:
    wire = PLAIN


def current() -> Wire:
    """That of the test that runs."""
    return _Current.wire


@contextmanager
def used(wire: Wire) -> Iterator[Wire]:
    """Let this one be the current one."""
    before, _Current.wire = _Current.wire, wire
    try:
        yield wire
    finally:
        _Current.wire = before


def break_off(line: Line) -> None:
    """Reset the connection, without a word."""
    sock = line.plain if isinstance(line, _Encrypted) else line
    assert isinstance(sock, socket.socket)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class _Encrypted:
    """A socket's calls, over TLS; two threads may use it, one of them to send."""

    def __init__(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        """Shake hands; if that fails the socket is closed.

        Raises:
            OSError: they don't come together.
        """
        self.plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        self._heard = b""
        self._turn = threading.Lock()
        """Whose the library is, which can't be used by two at once."""

        try:
            self._shake_hands()
        except OSError:
            plain.close()
            raise

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._take_in()
            else:
                return self._flush()

    def sendall(self, data: bytes) -> None:
        if data:
            with self._turn:
                self._tls.write(data)
                self._flush()

    def recv(self, size: int) -> bytes:
        if self._heard:
            data, self._heard = self._heard[:size], self._heard[size:]
            return data
        while True:
            try:
                with self._turn:
                    return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._take_in()
            except ssl.SSLZeroReturnError:  # the other side has said that it closes, after we did
                return b""

    def shutdown(self, how: int) -> None:
        self._say_goodbye()
        self.plain.shutdown(how)

    def close(self) -> None:
        with suppress(OSError):  # it may be gone
            self._say_goodbye()
        self.plain.close()

    def setsockopt(self, level: int, name: int, value: int) -> None:
        self.plain.setsockopt(level, name, value)

    def settimeout(self, seconds: float | None) -> None:
        self.plain.settimeout(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _say_goodbye(self) -> None:
        with self._turn:
            with suppress(ssl.SSLWantReadError):  # or the library would throw away what waits to be read
                while data := self._tls.read(_READ_BYTES):
                    self._heard += data
            with suppress(ssl.SSLWantReadError):  # the other side has not said so yet
                self._tls.unwrap()
            self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.plain.sendall(self._outgoing.read())

    def _take_in(self) -> None:
        data = self.plain.recv(_READ_BYTES)
        with self._turn:
            self._incoming.write(data)
            if not data:
                self._incoming.write_eof()
