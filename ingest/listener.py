"""The listeners and all their connections: from a socket to a connection, and to its end.

Who is let in is decided in `ingest.admission`, what one may send in `ingest.shares`, by when in
`ingest.deadlines`; here it is done.

Backpressure has one place, the gate: reading on all connections pauses while too much waits to become
durable, and whenever the journal says that it can't take more. Nothing is ever dropped.
"""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

from ingest.acceptor import Acceptor, Address, listening_sockets
from ingest.admission import Admission
from ingest.assembler import Assembler, Numbering
from ingest.clock import StampClock
from ingest.connection import GATE, OVER, Connection
from ingest.deadlines import STANDSTILL_S, Deadlines
from ingest.encrypted import shake_hands
from ingest.errors import HandshakeError, ListenError
from ingest.gate import Gate
from ingest.metrics import IngestMetrics
from ingest.reasons import WhyClosed, WhyRefused
from ingest.settings import IngestSettings
from ingest.shares import Shares, receive_buffer
from ingest.tls import Certificates
from ingest.turns import Turns
from parser.block import Block, Opened, Started
from parser.framing import Ending
from parser.settings import Rules

_SWEEP_S: Final = 1.0
_LAST_WORD_S: Final = 10.0
_LAST_COMERS_S: Final = 1.0
_HALF_WAY_S: Final = 0.2
"""A handshake of the kernel is over by then: a few round trips in a plant's network."""

_PROBES: Final = 3


class Listener:
    """All connections of a server."""

    def __init__(
        self,
        settings: IngestSettings,
        rules: Rules,
        clock: StampClock,
        numbering: Numbering,
        *,
        submit: Callable[[Block], None],
        metrics: IngestMetrics,
    ) -> None:
        """`submit` gets each block, and `assembler.committed` has to be called when it is durable."""
        self._settings = settings
        self._rules = rules
        self._clock = clock
        self._metrics = metrics
        self.clean_ending = Ending.CLEAN if settings.end_of_stream == "record" else Ending.STRICT
        self.gate = Gate(on_close=self._pause, on_open=self._resume)
        self.assembler = Assembler(
            settings, rules, clock, numbering, submit=submit, gate=self.gate, metrics=metrics
        )
        self.connections: set[Connection] = set()
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self.admission = Admission(settings, metrics=metrics, now=self.now)
        self.shares = Shares(settings, rules.delimiter, metrics, self._loop)
        self._acceptors: list[list[Acceptor]] = []
        self._leaving = False
        self._adopting: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Handle | None = None
        self._sweep_due = 0.0
        self._turns = Turns()
        self.certificates: Certificates | None = None
        """With TLS, once it has started."""

    # From start to end.

    async def start(self, version: str) -> None:
        """Say in the journal that the server began, and listen.

        Raises:
            CertificateError: what TLS needs can't be used.
            ListenError: an address can't be listened on.
        """
        if self._settings.tls_cert is not None:
            self.certificates = Certificates(self._settings)
        self.assembler.happened(Started(version))
        self.assembler.tick()
        await self._listen("port", self._settings.port, acknowledges=False)
        if self._settings.ack_port is not None:
            await self._listen("ack_port", self._settings.ack_port, acknowledges=True)
        self._sweep_later()

    async def _listen(self, key: str, port: int, *, acknowledges: bool) -> None:
        def accepted(sock: socket.socket, address: Address) -> None:
            self._accepted(sock, Connection(self, self._rules, address, acknowledges=acknowledges))

        try:
            sockets = await listening_sockets(self._settings.host, port, shared=self._settings.share_port)
        except ListenError as error:
            raise ListenError(f"{error} [ingest] host and {key} say where to listen") from error
        acceptors = [
            Acceptor(sock, accepted, exhausted=self._metrics.rests.inc, crowded=lambda: self._turns.crowded)
            for sock in sockets
        ]
        self._acceptors.append(acceptors)
        for acceptor in acceptors:
            acceptor.start()

    @property
    def ports(self) -> list[int]:
        """The real ports: that of the machines and, where there is one, that of acknowledgements."""
        return [acceptors[0].port for acceptors in self._acceptors]

    @property
    def listening(self) -> bool:
        """Whether machines can connect; at its end only those are let in who had begun to."""
        return not self._leaving and any(
            acceptor.open for acceptors in self._acceptors for acceptor in acceptors
        )

    def change(self, settings: IngestSettings, rules: Rules) -> None:
        """Go by other limits and `identities` from now on, also for those who are here.

        What can't be changed under living connections stays as it was: addresses, ports, tick,
        `end_of_stream` and `bind_identity`. Delimiter and `max_record_bytes` have to be those of before.
        """
        self._settings, self._rules = settings, rules
        self.assembler.change(settings, rules)
        self.admission.change(settings)
        self.shares.change(settings, self.connections)
        for connection in list(self.connections):
            if (why := self._unwelcome(connection)) is not None:
                self._cut(connection, why)

    def _unwelcome(self, connection: Connection) -> WhyClosed | None:
        """Why it may not be here as things are now; also one that was at the door when they changed."""
        if not self.admission.allows(connection.address[0]):
            return WhyClosed.NOT_ALLOWED
        revoked = self.certificates is not None and connection.certificate in self.certificates.revoked
        return WhyClosed.REVOKED if revoked else None

    async def close(self) -> None:
        """Accept nobody but those who have connected already, and read what these have sent.

        Where the port is shared, who comes at the last moment is left to the other server, not refused.
        """
        self._leaving = True
        acceptors = [acceptor for of_port in self._acceptors for acceptor in of_port]
        if self._settings.share_port:
            for acceptor in acceptors:
                acceptor.leave_newcomers()
            await asyncio.sleep(_HALF_WAY_S)
        for acceptor in acceptors:
            acceptor.finish()
        if self._adopting:
            await asyncio.wait(self._adopting, timeout=_LAST_COMERS_S)
            await asyncio.sleep(self._settings.tick_ms / 1000)

    def stop(self) -> None:
        """Accept nobody, end all streams, and make the last block."""
        for acceptors in self._acceptors:
            for acceptor in acceptors:
                acceptor.close()
        for task in self._adopting:
            task.cancel()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self.connections):
            connection.hold(OVER, self.now())
            connection.end(Ending.SHUTDOWN, WhyClosed.SHUTDOWN)
        self.assembler.tick()

    def hang_up(self) -> None:
        """Close what is still connected."""
        for connection in list(self.connections):
            connection.close()

    # From a socket to a connection.

    def _accepted(self, sock: socket.socket, connection: Connection) -> None:
        """Refuse it before anything is spent on it, or take it in."""
        if not self.admission.enter(connection, shakes_hands=self.certificates is not None):
            sock.close()
            return
        task = self._loop.create_task(self._adopt(sock, connection))
        self._loop.call_soon(self._loop.call_soon, self._hold_newcomer, connection)
        self._adopting.add(task)
        task.add_done_callback(partial(self._adopted, connection))

    def _adopted(self, connection: Connection, task: asyncio.Task[None]) -> None:
        self._adopting.discard(task)
        self.admission.hands_shaken(connection)

    async def _adopt(self, sock: socket.socket, connection: Connection) -> None:
        try:
            _keep_alive(sock, self._settings.keepalive_s)
            if (size := receive_buffer(self._settings)) is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            await self._take_in(sock, connection)
        except HandshakeError as error:
            self.admission.leave(connection)
            self.admission.refused(error.why, connection, detail=str(error))
        except OSError as error:  # it was gone before it was here
            self._give_up(sock, connection)
            self.admission.refused(WhyRefused.GONE, connection, detail=str(error))
        except asyncio.CancelledError:
            self._give_up(sock, connection)
            raise
        except Exception as error:  # noqa: BLE001  # a mistake of ours must not cost its place for ever
            self._give_up(sock, connection)
            self.admission.refused(WhyRefused.FAILED, connection, detail=repr(error))

    async def _take_in(self, sock: socket.socket, connection: Connection) -> None:
        if self.certificates is None:
            await self._loop.connect_accepted_socket(lambda: connection, sock)
        else:
            timeout_s = self._settings.handshake_timeout_s
            await shake_hands(sock, connection, self.certificates.context, self._turns, timeout_s)

    def _give_up(self, sock: socket.socket, connection: Connection) -> None:
        self.admission.leave(connection)
        sock.close()

    def admitted(self, connection: Connection) -> None:
        """A connection has its transport."""
        connection.id = self._clock.stamp()  # unique for ever, as no stamp is given twice
        connection.heard = connection.begun = self.now()
        self.connections.add(connection)
        self._metrics.opened.inc()
        self.assembler.happened(Opened(connection.id, connection.peer, connection.identity))
        self.shares.give(connection)
        room = self.admission.identify(connection)
        why = self._unwelcome(connection) if room else WhyClosed.TOO_MANY_OF_IDENTITY
        self._loop.call_soon(self._begin, connection, why)

    def _hold_newcomer(self, connection: Connection) -> None:
        """Called right behind `connection_made`, before the loop looks at the socket for the first time.

        The first step of `_adopt` puts `connection_made` into the loop's queue, the step behind that one puts
        this there. A transport that was paused any earlier would read all the same.
        """
        if self.gate.closed and connection in self.connections:
            connection.hold(GATE, self.now())

    def _begin(self, connection: Connection, why: WhyClosed | None) -> None:
        """What can't be done before the transport reads, which it does when `admitted` has returned."""
        if why is not None:
            self._cut(connection, why)
        elif self.gate.closed:
            connection.hold(GATE, self.now())

    def ended(self, connection: Connection) -> None:
        """A connection's stream is over."""
        self._metrics.closed.labels(connection.why).inc()
        connection.heard = self.now()
        self.assembler.ended(connection)

    def forget(self, connection: Connection) -> None:
        """A connection's transport is gone."""
        self.connections.discard(connection)
        self.shares.forget(connection)
        self.admission.leave(connection)

    # Limits.

    def _sweep_later(self) -> None:
        self._sweep_due = self.now() + _SWEEP_S
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep_soon)

    def _sweep_soon(self) -> None:
        """Have what came meanwhile read first, as timers come before that; for deadlines none of it passed.

        This process may have stood still. What is called soon from here comes before the loop looks at the
        sockets, and what is called soon from there behind that.
        """
        now = self.now()
        late_s = now - self._sweep_due
        if late_s > STANDSTILL_S:
            for connection in self.connections:
                connection.excuse(late_s, now)
        self._sweeper = self._loop.call_soon(self._sweep_next)

    def _sweep_next(self) -> None:
        self._sweeper = self._loop.call_soon(self._sweep_again)

    def _sweep_again(self) -> None:
        self._sweep_later()
        self._sweep()

    def _sweep(self) -> None:
        """Close what missed a deadline, and what doesn't take its last word."""
        now = self.now()
        for sender in set(self.assembler.arrivals.senders):
            sender.hear(now)
        deadlines = Deadlines(self._settings, now)
        for connection in list(self.connections):
            if connection.ending is not None:
                if connection.heard < now - _LAST_WORD_S:
                    connection.abort()
            elif (why := deadlines.missed(connection)) is not None:
                self._cut(connection, why)
        self.shares.sweep()
        self.admission.sweep()

    def _cut(self, connection: Connection, why: WhyClosed) -> None:
        """End a stream from our side; who gets acknowledgements is closed when the last one is sent."""
        connection.hold(OVER, self.now())
        connection.end(Ending.TIMEOUT, why)
        if not connection.acknowledges:
            connection.close()

    def _pause(self) -> None:
        self._metrics.pauses.inc()
        now = self.now()
        for connection in self.connections:
            connection.hold(GATE, now)

    def _resume(self) -> None:
        now = self.now()
        for connection in self.connections:
            connection.let_go(GATE, now)


def _keep_alive(sock: socket.socket, after_s: int) -> None:
    """Let the kernel find out when the other side is gone without a word.

    It asks after so much silence, three times, and gives up half as much later; so long it also waits for
    what we have sent to be taken.
    """
    every_s = max(1, after_s // 6)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, after_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, every_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * (after_s + _PROBES * every_s))
