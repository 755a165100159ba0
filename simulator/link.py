"""One TCP connection of the simulator, from connected to gone.

Packets are cut into pieces as the scenario wants, and each piece is written in a turn of the loop of its
own, so that it leaves as a packet of its own. The pieces that wait have a high and a low mark, and above
them stands the socket's own buffer: when the server stops reading, the link stops being `ready`, and its
machines stand still. So it does while too many records wait to be acknowledged that might have to be sent
again.

    OPEN ----finish()----> FINISHING   write what is left, half-close, read until the server closes
      |------reset()-----> RESETTING   write what is left, wait until it arrived, reset
      |------abort()-----> ABORTING    away with it
      +-------------------------------> GONE, from each of them, when the connection is lost
"""

import asyncio
import fcntl
import socket
import struct
import termios
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from random import Random
from typing import Final, Protocol, cast

from simulator.errors import AcknowledgementError
from simulator.scenarios import Manner
from simulator.source import Record
from simulator.wire import AckReader

HIGH_PIECES: Final = 256
LOW_PIECES: Final = 32
HIGH_BYTES: Final = 64 * 1024
HIGH_UNACKNOWLEDGED: Final = 65536

_SETTLE_S: Final = 0.002
_LINGER_NOT: Final = struct.pack("ii", 1, 0)


class Phase(StrEnum):
    """Where a link is in its life."""

    OPEN = "open"
    FINISHING = "finishing"
    RESETTING = "resetting"
    ABORTING = "aborting"
    GONE = "gone"


ENDED: Final = {
    Phase.OPEN: "lost",
    Phase.FINISHING: "finished",
    Phase.RESETTING: "reset",
    Phase.ABORTING: "aborted",
}
"""How a link ended that was lost in this phase."""


Parcel = tuple[Record, bool]
"""A record, and whether it was sent before, on another connection."""


class Owner(Protocol):
    """Whoever wants to know about a link."""

    def link_changed(self, link: "Link") -> None:
        """It is ready, or not any more."""

    def link_gone(self, link: "Link") -> None:
        """Its connection is lost."""


class Link(asyncio.Protocol):
    """A connection to the server."""

    def __init__(
        self, owner: Owner, manner: Manner, rng: Random, *, acks: bool, resends: bool, logs: bool
    ) -> None:
        """Prepare a connection.

        Args:
            owner: is told when something changes.
            manner: of the scenario.
            rng: for the places of cuts.
            acks: the server acknowledges on this connection.
            resends: keep what is not acknowledged.
            logs: keep a list of all that was sent.
        """
        self.phase = Phase.OPEN
        self.ready = False
        self.ended = ""
        self.local_port = 0
        self.sent = 0
        self.again = 0
        self.unasked_bytes = 0
        """What the server wrote on a connection where it never should."""

        self.error: AcknowledgementError | None = None
        self.log: list[Parcel] = []
        self.unacknowledged: deque[Record] = deque()
        self.gone = asyncio.Event()
        self._owner, self._manner, self._rng = owner, manner, rng
        self._acks = AckReader() if acks else None
        self._resends, self._logs = resends, logs
        self._pieces: deque[tuple[bytes, list[Parcel]]] = deque()
        self._paused = False
        self._pumping: asyncio.Handle | None = None
        self._transport: asyncio.Transport

    @property
    def acknowledged(self) -> int:
        """So many of the records sent are durable, from the first on."""
        return self._acks.acknowledged if self._acks else 0

    def take_leftovers(self) -> list[Parcel]:
        """What is still to be sent, in order, now that this link is gone: each is given only once."""
        unsure = [(record, True) for record in self.unacknowledged]
        unwritten = [parcel for _, packet in self._pieces for parcel in packet]
        self.unacknowledged.clear()
        self._pieces.clear()
        return unsure + unwritten

    def send(self, packet: list[Parcel]) -> None:
        """Write these records as one packet, as soon as the server takes it."""
        pieces = self._manner.cut(b"".join(record.data for record, _ in packet), self._rng)
        self._pieces.extend(zip(pieces, _ending_in(pieces, packet), strict=True))
        if self._pumping is None:
            self._pump()
        self._tell()

    def finish(self) -> None:
        """Write what is left, half-close, and wait for the server to close."""
        if self.phase is Phase.OPEN:
            self.phase = Phase.FINISHING
            self._tell()
            if self._pumping is None:
                self._pump()

    async def reset(self) -> None:
        """Write what is left, wait until the server's machine has it, and break the connection.

        The last record written is taken to be cut off: it is not waited for to be acknowledged.
        """
        if self.phase is not Phase.OPEN:
            return
        self.phase = Phase.RESETTING
        while not self._settled() and not self.gone.is_set():  # noqa: ASYNC110  # a kernel's queue has no event
            await asyncio.sleep(_SETTLE_S)
        if not self.gone.is_set():
            peer = self._transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            self._transport.abort()
            await self.gone.wait()

    def abort(self) -> None:
        """Let go of the connection, whatever it still holds."""
        if self.phase is not Phase.GONE:
            self.phase = Phase.ABORTING
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._transport.set_write_buffer_limits(high=HIGH_BYTES)
        self.local_port = transport.get_extra_info("sockname")[1]
        self._tell()

    def data_received(self, data: bytes) -> None:
        """Take acknowledgements; anything else from the server is wrong."""
        if self._acks is None:
            self.unasked_bytes += len(data)
            return
        try:
            self._acks.feed(data, self.sent)
        except AcknowledgementError as error:
            self.error = error
            self.abort()
        while len(self.unacknowledged) > self.sent - self.acknowledged:
            self.unacknowledged.popleft()
        if self.phase is Phase.FINISHING and not self._pieces and not self._transport.can_write_eof():
            self._end_stream()
        self._tell()

    def pause_writing(self) -> None:
        """The socket's buffer is full."""
        self._paused = True
        self._tell()

    def resume_writing(self) -> None:
        """The server took something."""
        self._paused = False
        if self._pumping is None:
            self._pump()
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over; a connection that was to be finished but broke is lost as well."""
        whole = exc is None and not self._pieces
        self.ended = ENDED[self.phase] if whole or self.phase is not Phase.FINISHING else ENDED[Phase.OPEN]
        self.phase = Phase.GONE
        if self._pumping is not None:
            self._pumping.cancel()
        self._tell()
        self.gone.set()
        self._owner.link_gone(self)

    def _pump(self) -> None:
        """Write one piece, and come back for the next."""
        self._pumping = None
        if self._paused or self._transport.is_closing():
            return
        gap_s = self._write_piece()
        if self._pieces or gap_s:
            self._pumping = asyncio.get_running_loop().call_later(gap_s, self._pump)
        elif self.phase is Phase.FINISHING:
            self._end_stream()
        self._tell()

    def _end_stream(self) -> None:
        """Half-close; over TLS, where that can't be, close when all is acknowledged."""
        if self._transport.can_write_eof():
            with suppress(OSError):  # reset by the server; `connection_lost` is about to be called
                self._transport.write_eof()
        elif self._acks is None or self.acknowledged >= self.sent:
            self._transport.close()

    def _write_piece(self) -> float:
        """Write the next piece, if there is one; give how long to wait after it."""
        if not self._pieces:
            return 0.0
        piece, packet = self._pieces.popleft()
        self._transport.write(piece)
        self.sent += len(packet)
        self.again += sum(again for _, again in packet)
        if self._logs:
            self.log.extend(packet)
        if self._resends:
            self.unacknowledged.extend(record for record, _ in packet)
        return self._manner.gap_s

    def _tell(self) -> None:
        most = HIGH_PIECES if self.ready else LOW_PIECES
        # Where pieces leave slowly a record is only made when it can go, so that its time is its own.
        has_room = not self._pieces if self._manner.gap_s else len(self._pieces) < most
        has_room &= len(self.unacknowledged) < HIGH_UNACKNOWLEDGED
        ready = has_room and not self._paused and self.phase is Phase.OPEN
        if ready != self.ready:
            self.ready = ready
            self._owner.link_changed(self)

    def _settled(self) -> bool:
        """Nothing is on its way any more, and everything whole is acknowledged where that is done."""
        if self._pieces or self._transport.get_write_buffer_size():
            return False
        peer = self._transport.get_extra_info("socket")
        unsent = struct.unpack("i", fcntl.ioctl(peer.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        return not unsent and (self._acks is None or self.acknowledged >= self.sent - 1)


def _ending_in(pieces: list[bytes], packet: list[Parcel]) -> Iterator[list[Parcel]]:
    """The records that are whole with each piece: from then on they may be acknowledged."""
    waiting, written, end = deque(packet), 0, len(packet[0][0].data)
    for piece in pieces:
        written += len(piece)
        whole: list[Parcel] = []
        while waiting and end <= written:
            whole.append(waiting.popleft())
            end += len(waiting[0][0].data) if waiting else 0
        yield whole
