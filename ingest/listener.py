"""The listeners and all their connections: who is let in, and when who is closed.

Backpressure has one place, the gate: reading on all connections pauses while too much waits to become
durable, and whenever the journal says that it can't take more. Nothing is ever dropped.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from ingest.acceptor import Acceptor, Address, listening_sockets
from ingest.assembler import Assembler, Numbering
from ingest.clock import StampClock
from ingest.connection import IDLE_TIMEOUT, SHUTDOWN, Connection
from ingest.errors import ListenError
from ingest.gate import Gate
from ingest.metrics import IngestMetrics
from ingest.settings import IngestSettings
from parser.block import Block, Opened, Started
from parser.framing import Ending
from parser.settings import Rules

_SWEEP_S: Final = 1.0
_LAST_WORD_S: Final = 10.0
_LAST_COMERS_S: Final = 1.0


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
        self._allow = [ip_network(network) for network in settings.allow]
        self.clean_ending = Ending.CLEAN if settings.end_of_stream == "record" else Ending.STRICT
        self.gate = Gate(on_close=self._pause, on_open=self._resume)
        self.assembler = Assembler(
            settings, rules, clock, numbering, submit=submit, gate=self.gate, metrics=metrics
        )
        self.connections: set[Connection] = set()
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._acceptors: list[list[Acceptor]] = []
        self._adopting: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    # From start to end.

    async def start(self, version: str) -> None:
        """Say in the journal that the server began, and listen.

        Raises:
            ListenError: an address can't be listened on.
        """
        self.assembler.happened(Started(version))
        self.assembler.tick()
        await self._listen("port", self._settings.port, acknowledges=False)
        if self._settings.ack_port is not None:
            await self._listen("ack_port", self._settings.ack_port, acknowledges=True)
        self._sweep()

    async def _listen(self, key: str, port: int, *, acknowledges: bool) -> None:
        def accepted(sock: socket.socket, address: Address) -> None:
            self._accepted(sock, Connection(self, self._rules, address, acknowledges=acknowledges))

        try:
            sockets = await listening_sockets(self._settings.host, port, shared=self._settings.share_port)
        except ListenError as error:
            raise ListenError(f"{error} [ingest] host and {key} say where to listen") from error
        acceptors = [Acceptor(sock, accepted, exhausted=self._metrics.rests.inc) for sock in sockets]
        self._acceptors.append(acceptors)
        for acceptor in acceptors:
            acceptor.start()

    @property
    def ports(self) -> list[int]:
        """The real ports: that of the machines and, where there is one, that of acknowledgements."""
        return [acceptors[0].port for acceptors in self._acceptors]

    @property
    def listening(self) -> bool:
        """Whether machines can connect."""
        return any(acceptor.open for acceptors in self._acceptors for acceptor in acceptors)

    async def close(self) -> None:
        """Accept nobody but those who have connected already, and read what these have sent."""
        for acceptors in self._acceptors:
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
            connection.pause()
            connection.end(Ending.SHUTDOWN, SHUTDOWN)
        self.assembler.tick()

    def hang_up(self) -> None:
        """Close what is still connected."""
        for connection in list(self.connections):
            connection.close()

    # From a socket to a connection.

    def _accepted(self, sock: socket.socket, connection: Connection) -> None:
        """Refuse it before anything is spent on it, or take it in."""
        refused = self._refusal(connection.address[0])
        if refused is not None:
            self._metrics.refused.labels(refused).inc()
            sock.close()
            return
        _keep_alive(sock)
        task = self._loop.create_task(self._adopt(sock, connection))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def _adopt(self, sock: socket.socket, connection: Connection) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, sock)
        except OSError:  # it was gone before it was here
            self._metrics.refused.labels("gone").inc()
            sock.close()
        except asyncio.CancelledError:
            sock.close()
            raise

    def admitted(self, connection: Connection) -> None:
        """A connection has its transport."""
        connection.id = self._clock.stamp()  # unique for ever, as no stamp is given twice
        connection.heard = self.now()
        self.connections.add(connection)
        self._metrics.opened.inc()
        self.assembler.happened(Opened(connection.id, _shown(connection.address)))
        if self.gate.closed:  # the transport begins to read when this has returned, so later
            self._loop.call_soon(self._pause_late, connection)

    def _pause_late(self, connection: Connection) -> None:
        if self.gate.closed:
            connection.pause()

    def ended(self, connection: Connection) -> None:
        """A connection's stream is over."""
        self._metrics.closed.labels(connection.why).inc()
        connection.heard = self.now()
        self.assembler.ended(connection)

    def forget(self, connection: Connection) -> None:
        """A connection's transport is gone."""
        self.connections.discard(connection)

    # Limits.

    def _refusal(self, address: str) -> str | None:
        if len(self.connections) + len(self._adopting) >= self._settings.max_connections:
            return "too_many"
        if self._allow and not _among(address, self._allow):
            return "not_allowed"
        return None

    def _sweep(self) -> None:
        """Close what was silent for too long, and what doesn't take its last word."""
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
        now = self.now()
        idle = now - self._settings.idle_timeout_s
        for connection in list(self.connections):
            if connection.ending is not None:
                if connection.heard < now - _LAST_WORD_S:
                    connection.abort()
            elif connection.heard < idle and not self.gate.closed:
                connection.end(Ending.TIMEOUT, IDLE_TIMEOUT)
                if not connection.acknowledges:
                    connection.close()

    def _pause(self) -> None:
        self._metrics.pauses.inc()
        for connection in self.connections:
            connection.pause()

    def _resume(self) -> None:
        now = self.now()
        for connection in self.connections:
            connection.resume(now)


def _shown(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _among(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return any((mapped or parsed) in network for network in networks)


def _keep_alive(sock: socket.socket) -> None:
    """Let the kernel find out when the other side is gone without a word."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
