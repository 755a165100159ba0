"""One machine's connection: bytes in, and on the second listener acknowledgements out.

Reading does next to nothing: whole records are put aside until the tick, which makes a block of everything
that all connections have sent since the last one. A connection ends once, with an ending for its last
record and a reason (`ingest.reasons`) that an engineer finds in the table `connections`.

Reading pauses while there is a reason: the gate is closed, its share is used up, or its stream is over.

Acknowledgements melt into the newest: while one can't be sent, later ones only raise the number. After a
half-close everything is committed and acknowledged before the connection is closed from our side.
"""

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, Final, cast

from ingest.errors import StreamError
from ingest.reasons import WhyClosed
from ingest.revocation import Issue
from parser.framing import Ending, Framer
from parser.settings import Rules

if TYPE_CHECKING:
    from ingest.listener import Listener

GATE: Final = 1
SHARE: Final = 2
OVER: Final = 4
"""Why a connection is not read from; bits, as there may be several reasons."""

_NO_WAY: Final = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})

_NOTHING_MORE: Final = frozenset({7, 8})
"""States of TCP (TCP_CLOSE, TCP_CLOSE_WAIT): it was reset or given up, or the other side has sent its end."""


class Connection(asyncio.Protocol):
    """A connection, as its transport and the tick see it."""

    __slots__ = (
        "_acknowledged",
        "_arrivals",
        "_assembler",
        "_blocked",
        "_closes",
        "_framer",
        "_held_since",
        "_listener",
        "_transport",
        "acknowledges",
        "address",
        "begun",
        "certificate",
        "ending",
        "heard",
        "held",
        "id",
        "identity",
        "records",
        "why",
    )

    def __init__(
        self, listener: "Listener", rules: Rules, address: tuple[str, int], *, acknowledges: bool
    ) -> None:
        self._listener = listener
        self._assembler = listener.assembler
        self._framer = Framer(rules)
        self._arrivals = self._assembler.arrivals
        self._acknowledged = 0
        self._blocked = False
        self._closes = False
        self.acknowledges = acknowledges
        self.id = 0
        self.address = address
        """The peer's host and port."""

        self.identity: str | None = None
        """Who it proved to be by its certificate, where that is asked."""

        self.certificate: Issue | None = None
        """Which one that was."""

        self.records = 0
        """Records in blocks so far that its sender may be told of: not one that was cut off, as that may
        have been sent whole, and has to be sent again."""

        self.heard = 0.0
        """When something came last, by the tick or the sweep, on the loop's clock; after its end, when it
        ended."""

        self.begun = 0.0
        """Since when a whole record is waited for, on the same clock: the first since the connection was
        made, each later one since its first byte."""

        self.held = 0
        """Why it is not read from; 0 while it is."""

        self._held_since = 0.0
        self.ending: Ending | None = None
        self.why = ""

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be one of the listener's."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        self.identity = self._transport.get_extra_info("identity", self.identity)
        self.certificate = self._transport.get_extra_info("certificate", self.certificate)
        self._listener.admitted(self)

    def data_received(self, data: bytes) -> None:
        """Put the whole records aside for the tick."""
        offset = self._framer.pass_whole(data)
        if offset >= 0:
            arrivals = self._arrivals
            arrivals.pieces.append(data)
            arrivals.senders.append(self)
            arrivals.offsets.append(offset)
        else:
            self._take_apart(data)
        self._assembler.arrived(len(data))

    def _take_apart(self, data: bytes) -> None:
        """Put aside what is whole, and note when the rest was begun."""
        self.heard = self._listener.now()  # a tick hears only of whole records
        was_unfinished = self._framer.unfinished
        chunks = self._framer.feed(data)
        for chunk in chunks:
            self._arrivals.add(self, chunk)
        if chunks or (self.delivered and not was_unfinished):
            self.begun = self.heard

    def eof_received(self) -> bool:
        """The machine has sent all; whether the transport stays open for the last acknowledgement."""
        self.end(self._listener.clean_ending, WhyClosed.CLOSED)
        return self.acknowledges

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.end(Ending.RESET, _why_lost(exc))
        self._blocked = True
        self._listener.forget(self)

    def pause_writing(self) -> None:
        """The last acknowledgement has not left yet."""
        self._blocked = True

    def resume_writing(self) -> None:
        """It has."""
        self._blocked = False
        self._assembler.acknowledge_again(self)
        if self._closes:
            self._transport.close()

    # What the listener calls.

    @property
    def bytes(self) -> int:
        """All that was framed, also what was skipped."""
        return self._framer.received

    def end(self, ending: Ending, why: WhyClosed) -> None:
        """End the stream; the first end counts."""
        if self.ending is None:
            self.ending, self.why = ending, why
            for chunk in self._framer.end(ending):
                self._arrivals.add(self, chunk)
            self._listener.ended(self)

    def acknowledge(self, records: int) -> None:
        """Tell the sender how many of its records are durable, unless the last word is still waiting."""
        if not self._blocked and records > self._acknowledged:
            self._acknowledged = records
            self._transport.write(b"ACK,%d#" % records)

    @property
    def peer(self) -> str:
        """Its address as people write it."""
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def delivered(self) -> bool:
        """Whether at least one record has come, good or bad."""
        return self._framer.handed_on > 0

    @property
    def unfinished(self) -> bool:
        """Whether a record was begun and is not whole yet."""
        return self._framer.unfinished

    @property
    def sent_all(self) -> bool:
        """Whether the other side has closed or is gone, though that was not read yet, as the kernel knows."""
        if self._transport.is_closing():
            return False
        sock = self._transport.get_extra_info("socket")
        state: int = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return state in _NOTHING_MORE

    def deliver_to(self, protocol: asyncio.Protocol) -> None:
        """Have the transport deliver to this one, which passes everything on."""
        self._transport.set_protocol(protocol)

    @property
    def waited_for(self) -> bool:
        """Whether its time for a whole record runs; the first one's also while its share is used up.

        Else white space that is sent a little faster than the share would be waited for without end.
        """
        return not self.held or (self.held == SHARE and not self.delivered)

    def hold(self, why: int, now: float) -> None:
        """Read no more while there is this reason; having it twice is having it once."""
        was, was_waited_for = self.held, self.waited_for
        self.held |= why
        if was_waited_for and not self.waited_for:
            self._held_since = now
        if not was and not self._transport.is_closing():
            self._transport.pause_reading()

    def let_go(self, why: int, now: float) -> None:
        """Have it no more; when no reason is left reading goes on, and for deadlines no time has passed."""
        was, was_waited_for = self.held, self.waited_for
        self.held &= ~why
        if self.ending is not None or self._transport.is_closing():
            return
        if self.waited_for and not was_waited_for:
            self.begun += now - self._held_since
        if was and not self.held:
            self.heard = now
            self._transport.resume_reading()

    def hear(self, now: float) -> None:
        """Something came of it."""
        if self.ending is None:
            self.heard = now

    def excuse(self, seconds: float, now: float) -> None:
        """So long we stood still: for deadlines it did not pass; who is not waited for has it later."""
        if self.waited_for or self.ending is not None:
            self.heard = min(now, self.heard + seconds)
            self.begun = min(now, self.begun + seconds)

    def close_acknowledged(self) -> None:
        """Close from our side, when all that is acknowledged could be said."""
        self._closes = True
        if not self._blocked:
            self._transport.close()

    def close(self) -> None:
        """Close from our side, when what was written has left."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()


def _why_lost(error: Exception | None) -> WhyClosed:
    """What the kernel says of a connection that ended without a word, or its TLS."""
    if isinstance(error, StreamError):
        return error.why
    if isinstance(error, OSError):
        if error.errno == errno.ETIMEDOUT:
            return WhyClosed.TIMED_OUT
        if error.errno in _NO_WAY:
            return WhyClosed.UNREACHABLE
    return WhyClosed.RESET
