"""One machine's connection: bytes in, and on the second listener acknowledgements out.

Reading does next to nothing: whole records are put aside until the tick, which makes a block of everything
that all connections have sent since the last one. A connection ends once, with an ending for its last
record and a reason that an engineer finds in the table `connections`:

    closed         the machine closed it
    reset          it broke
    idle_timeout   nothing came for `idle_timeout_s`
    shutdown       the server ended
    server_lost    the server was lost (written by the next one)

Acknowledgements melt into the newest: while one can't be sent, later ones only raise the number. After a
half-close everything is committed and acknowledged before the connection is closed from our side.
"""

import asyncio
from typing import TYPE_CHECKING, Final, cast

from parser.framing import Ending, Framer
from parser.settings import Rules

if TYPE_CHECKING:
    from ingest.listener import Listener

CLOSED: Final = "closed"
RESET: Final = "reset"
IDLE_TIMEOUT: Final = "idle_timeout"
SHUTDOWN: Final = "shutdown"


class Connection(asyncio.Protocol):
    """A connection, as its transport and the tick see it."""

    __slots__ = (
        "_acknowledged",
        "_arrivals",
        "_assembler",
        "_blocked",
        "_closes",
        "_framer",
        "_listener",
        "_transport",
        "acknowledges",
        "address",
        "ending",
        "heard",
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

        self.records = 0
        """Record numbers taken so far."""

        self.heard = 0.0
        """When something came last, by the tick, on the loop's clock; after its end, when it ended."""

        self.ending: Ending | None = None
        self.why = ""

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be one of the listener's."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        self.identity = self._transport.get_extra_info("identity", self.identity)
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
            self.heard = self._listener.now()  # a tick hears only of whole records
            for chunk in self._framer.feed(data):
                self._arrivals.add(self, chunk)
        self._assembler.arrived(len(data))

    def eof_received(self) -> bool:
        """The machine has sent all; whether the transport stays open for the last acknowledgement."""
        self.end(self._listener.clean_ending, CLOSED)
        return self.acknowledges

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        del exc
        self.end(Ending.RESET, RESET)
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

    def end(self, ending: Ending, why: str) -> None:
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

    def pause(self) -> None:
        """Read no more for now."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self, now: float) -> None:
        """Read on; the time until now doesn't count as idle."""
        if not self._transport.is_closing() and self.ending is None:
            self.heard = now
            self._transport.resume_reading()

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
