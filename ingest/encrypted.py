"""TLS between a socket and a connection: bytes of the network in, bytes of the machine out.

To the socket's transport this is the protocol, to the connection it is the transport. uvloop has the same in
itself, and it was left: it can't keep a connection half open, so after the client's end of stream the last
acknowledgement could not be sent; it keeps a buffer of up to 256 KiB for each connection; and it tells the
loop's exception handler, or the log, of what strangers do (measured in docs/architecture.md).

    SHAKING --handshake done--> OPEN --close()--> CLOSING --> LOST
       |                         |  close_notify: the end of the stream; still OPEN for what we say
       |                         +--anything else that ends it: the stream broke ----------> LOST
       +--failed or too late--> FAILED -----------------------------------------------------> LOST

Where it was we who ended a stream, the connection is told why when it is told that it is gone.

What came and may not be read on (`pause_reading`) stays encrypted: at most one read of the socket. So does
what came for a handshake until it is its turn (`ingest.turns`); its deadline stands still meanwhile, and
while this process does.
"""

import asyncio
import socket
import ssl
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any, Final, cast

from ingest import hello
from ingest.deadlines import STANDSTILL_S
from ingest.errors import HandshakeError, StreamError
from ingest.reasons import WhyClosed, WhyRefused
from ingest.revocation import Issue
from ingest.tls import identity_of, issue_of
from ingest.turns import Turns

_SLICE: Final = 16_384
"""Bytes decrypted in one go, the most that TLS puts into one of its records: so the buffers stay small."""

_MOST_UNSENT: Final = 65_536
"""What TLS may want to say to a client that doesn't listen, before it is cut off; we say much less."""

_MOST_BARREN: Final = 32_768
"""Bytes without one of data among them; a record of TLS that comes in pieces is half as long at most."""

_LATE: Final = "not done in time"
_LOOKS: Final = 2
_NOBODY: Final = asyncio.Protocol()


class Phase(Enum):
    """Where a connection is in its life."""

    SHAKING = "shaking"
    OPEN = "open"
    CLOSING = "closing"
    FAILED = "failed"
    LOST = "lost"


class Encrypted(asyncio.Transport, asyncio.Protocol):
    """One connection's TLS, on the server's side."""

    __slots__ = (
        "_barren",
        "_broke",
        "_due",
        "_ended",
        "_head",
        "_held",
        "_identity",
        "_incoming",
        "_issue",
        "_later",
        "_left_s",
        "_loop",
        "_outgoing",
        "_paused",
        "_protocol",
        "_raw",
        "_timer",
        "_tls",
        "_turns",
        "phase",
        "settled",
    )

    def __init__(
        self, protocol: asyncio.Protocol, context: ssl.SSLContext, turns: Turns, timeout_s: float
    ) -> None:
        """`protocol` learns of the connection when the handshake is done, and never if it fails."""
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._turns = turns
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._identity: str | None = None
        self._issue: Issue | None = None
        self._held = True  # until the turn of the loop is over in which somebody may want to pause reading
        self._paused = self._ended = False
        self._head = self._later = b""
        self._barren = 0
        self._broke: StreamError | None = None
        self.phase = Phase.SHAKING
        self.settled: asyncio.Future[Exception | None] = self._loop.create_future()
        """What became of the handshake: None if it is done."""

        self._left_s = timeout_s
        self._due = 0.0
        self._timer: asyncio.Handle | None = None

    # What the socket's transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client speaks first."""
        self._raw = cast("asyncio.Transport", transport)
        self._raw.set_write_buffer_limits(high=0)
        self._await_client()

    def data_received(self, data: bytes) -> None:
        """Ask for a turn of the handshake, or decrypt."""
        if self.phase is Phase.SHAKING:
            self._head += data[: hello.HEAD - len(self._head)]
            if not hello.fits(self._head):
                self._fail("a hello that is too long")
                return
            self._raw.pause_reading()
            self._await_turn()
            self._turns.ask(partial(self._go_on, data), len(data))
        else:
            self._take(data)

    def eof_received(self) -> bool:
        """The end of the socket is an end of the stream only if TLS has said so before."""
        self._read_on()
        if self.phase is Phase.SHAKING:
            self._fail("closed by the client")
        return self._ended

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        protocol, self._protocol = self._protocol, _NOBODY  # which holds us
        phase, self.phase = self.phase, Phase.LOST
        if phase in {Phase.OPEN, Phase.CLOSING}:
            protocol.connection_lost(self._broke or exc)
        self._settle(HandshakeError(WhyRefused.TLS_FAILED, "reset by the client"))

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        if self.phase is Phase.OPEN:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        if self.phase is Phase.OPEN:
            self._protocol.resume_writing()

    # The handshake's time, which is the client's only while it is the client's turn.

    def _await_client(self) -> None:
        self._due = self._loop.time() + self._left_s
        self._timer = self._loop.call_later(self._left_s, self._time_is_over, _LOOKS)

    def _await_turn(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._left_s = max(0.0, self._due - self._loop.time())

    def _time_is_over(self, looks: int) -> None:
        """Give up behind one more look at the socket, or begin anew where it was we who stood still.

        Timers come before anything is read, so what came in time may be there. Of what is called soon from
        here the first comes before the loop looks at the sockets too, the second behind that.
        """
        if self._loop.time() - self._due > STANDSTILL_S:
            self._await_client()
        elif looks:
            self._timer = self._loop.call_soon(self._time_is_over, looks - 1)
        else:
            self._settle(HandshakeError(WhyRefused.TLS_TIMEOUT, _LATE))

    def _go_on(self, data: bytes) -> None:
        """It is our turn, if we still want it."""
        if self.phase is not Phase.SHAKING or self.settled.done():
            return
        try:
            self._take(data)
        except Exception as error:  # noqa: BLE001  # a mistake of ours; who waits for the handshake says so
            self.abort()
            self._settle(error.with_traceback(None))  # which would hold us, and we hold the error
            return
        if self.phase is Phase.SHAKING:
            self._await_client()
            self._raw.resume_reading()

    # What comes of the bytes.

    def _take(self, data: bytes) -> None:
        """Go on with the handshake or with decrypting, slice by slice, and hand on what it says."""
        view, self._later = memoryview(self._later + data), b""
        plain: list[bytes] = []
        try:
            for start in range(0, len(view) or 1, _SLICE):
                if self._ended or self._barren > _MOST_BARREN:
                    break
                if self.phase is Phase.OPEN and self._waits:
                    self._later = bytes(view[start:])
                    break
                self._take_slice(view[start : start + _SLICE], plain)
        except ssl.SSLError as error:
            self._fail(getattr(error, "verify_message", "") or error.reason or "not TLS")
        except HandshakeError as error:
            self._fail(str(error))
        self._flush()
        self._deliver(plain)

    def _take_slice(self, data: memoryview, plain: list[bytes]) -> None:
        """Cuts off who sends only messages of TLS itself: each new key costs us more than the client."""
        before = len(plain)
        self._incoming.write(data)
        self._advance(plain)
        if self.phase is Phase.OPEN and not self._waits:
            self._barren = 0 if len(plain) > before else self._barren + len(data)
            if self._barren > _MOST_BARREN:
                self._break(WhyClosed.TLS_CUT_OFF)

    @property
    def _waits(self) -> bool:
        """Whether nothing may be decrypted for now."""
        return self._paused or self._held

    def _advance(self, plain: list[bytes]) -> None:
        with suppress(ssl.SSLWantReadError):
            if self.phase is Phase.SHAKING:
                self._tls.do_handshake()
                self._open()
            elif self.phase is Phase.OPEN and not self._waits:
                self._decrypt(plain)

    def _open(self) -> None:
        self._know()
        self.phase = Phase.OPEN
        self._flush()
        self._protocol.connection_made(self)
        self._loop.call_soon(self._let_go)
        self._settle(None)

    def _know(self) -> None:
        """Who the client proved to be, and by which certificate."""
        try:
            shown, whole = self._tls.getpeercert(), self._tls.getpeercert(binary_form=True)
            if shown and whole:
                self._identity, self._issue = identity_of(shown), issue_of(whole)
        except ValueError as error:
            raise HandshakeError(WhyRefused.TLS_FAILED, "a certificate that can't be read") from error

    def _decrypt(self, plain: list[bytes]) -> None:
        while not self._ended and (self._incoming.pending or self._tls.pending()):
            data = self._tls.read(_SLICE)
            self._ended = not data
            plain.append(data)

    def _deliver(self, plain: list[bytes]) -> None:
        data = plain[0] if len(plain) == 1 else b"".join(plain)
        if data:
            self._protocol.data_received(data)
        if plain and not plain[-1] and not self._protocol.eof_received():
            self.close()

    def _let_go(self) -> None:
        """The turn of the loop is over in which somebody may have paused reading."""
        self._held = False
        if self.phase is Phase.OPEN and not self._paused:
            self._raw.resume_reading()
            self._read_on()

    def _read_on(self) -> None:
        """Decrypt what is here already."""
        if self.phase is Phase.OPEN and not self._ended:
            self._take(b"")

    def _fail(self, reason: str) -> None:
        """End what can't go on: a handshake by telling the client, a stream by cutting it off."""
        if self.phase is Phase.SHAKING:
            self.phase = Phase.FAILED
            self._flush()
            self._raw.close()
            self._settle(HandshakeError(WhyRefused.TLS_FAILED, reason))
        else:
            self._break(WhyClosed.TLS_BROKEN)

    def _break(self, why: WhyClosed) -> None:
        """Cut a stream off; the first reason counts, as what follows comes of it."""
        self._broke = self._broke or StreamError(why)
        self.abort()

    def _settle(self, failure: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.settled.done():
            self.settled.set_result(failure)

    def _flush(self) -> None:
        if self._outgoing.pending and self.phase is not Phase.LOST:
            self._raw.write(self._outgoing.read())
            if self._raw.get_write_buffer_size() > _MOST_UNSENT:
                self._break(WhyClosed.TLS_CUT_OFF)

    # What the connection calls.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`identity`: who the client proved to be, `certificate`: by which one.

        For all else what the socket's transport knows.
        """
        if name == "identity":
            return self._identity
        return self._issue if name == "certificate" else self._raw.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Deliver to this one from now on."""
        self._protocol = cast("asyncio.Protocol", protocol)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Of the socket's transport."""
        self._raw.set_write_buffer_limits(high, low)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; nothing where the stream broke, of which the protocol hears only soon.

        A client that has stopped within a message of TLS itself can be told nothing, and is cut off.
        """
        if not self.is_closing():
            try:
                self._tls.write(data)
            except ssl.SSLError:
                self._break(WhyClosed.TLS_BROKEN)
            self._flush()

    def is_closing(self) -> bool:
        """Whether nothing is read or written any more."""
        return self.phase is not Phase.OPEN or self._raw.is_closing()

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._paused = True
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._paused = False
        if not self._held:
            self._raw.resume_reading()
            self._loop.call_soon(self._read_on)

    def close(self) -> None:
        """Say that it is over, and close when that has left."""
        if self.phase is Phase.OPEN:
            with suppress(ssl.SSLError):  # the client has not said so yet, and is not waited for
                self._tls.unwrap()
            self._flush()
            self.phase = Phase.CLOSING
            self._raw.close()

    def abort(self) -> None:
        """Close at once."""
        self._raw.abort()


async def shake_hands(
    sock: socket.socket,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext,
    turns: Turns,
    timeout_s: float,
) -> None:
    """Take an accepted socket in; `protocol` has its connection when this returns.

    Raises:
        HandshakeError: it has none, and the socket is closed or about to be.
        OSError: the client was gone before.
    """
    encrypted = Encrypted(protocol, context, turns, timeout_s)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: encrypted, sock)
    try:
        failure = await encrypted.settled
    finally:
        if encrypted.phase is Phase.SHAKING:  # too late, or the server ends
            encrypted.abort()
    if failure is not None:
        try:
            raise failure
        finally:
            del failure, encrypted  # the traceback keeps this frame, and would keep 48 KiB of each stranger
