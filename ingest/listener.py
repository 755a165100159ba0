"""The listeners, and the tick that makes one block of what all connections delivered.

A tick comes `tick_ms` after the first byte that waits for one, or as soon as 1 MiB waits; while nothing
arrives nothing happens. It brings together what each connection has sent, numbers the records, and hands
the block to the journal. When the block is durable the acknowledgements go out.

Backpressure has one place, the gate: reading on all connections pauses while too much waits to become
durable, and whenever the journal says that it can't take more. Nothing is ever dropped.
"""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from ingest.arrivals import Arrivals, Gathered
from ingest.clock import StampClock
from ingest.connection import IDLE_TIMEOUT, SHUTDOWN, Connection
from ingest.errors import ListenError
from ingest.gate import Gate
from ingest.metrics import IngestMetrics
from ingest.settings import MIB, IngestSettings
from parser.block import Block, Closed, Event, Opened, Started
from parser.framing import Ending
from parser.settings import Rules

_BLOCK_BYTES: Final = 1 * MIB
_QUEUE_HIGH: Final = 8 * MIB
_QUEUE_LOW: Final = 2 * MIB
_SWEEP_S: Final = 1.0
_LAST_WORD_S: Final = 10.0
_BACKLOG: Final = 4096


class Numbering(NamedTuple):
    """What the next block begins with."""

    block: int
    record: int


class _Submitted(NamedTuple):
    """A block on its way to the disk, and whom to tell when it is there."""

    block: int
    bytes: int
    acknowledge: list[tuple[Connection, int]]
    closing: list[Connection]


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
        """`submit` gets each block, and `committed` has to be called with it when it is durable."""
        self._settings = settings
        self._rules = rules
        self._clock = clock
        self._next = numbering
        self._submit = submit
        self._metrics = metrics
        self._allow = [ip_network(network) for network in settings.allow]
        self.clean_ending = Ending.CLEAN if settings.end_of_stream == "record" else Ending.STRICT
        self.gate = Gate(on_close=self._pause, on_open=self._resume)
        self.connections: set[Connection] = set()
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._timer: asyncio.TimerHandle | None = None
        self.arrivals = Arrivals(rules.delimiter)
        self._ended: list[Connection] = []
        self._events: list[Event] = []
        self._waiting_bytes = 0
        self._submitted: deque[_Submitted] = deque()
        self._submitted_bytes = 0
        self.settled = asyncio.Event()
        """Set while nothing that was made into a block waits to become durable."""

        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None

    # From start to end.

    async def start(self, version: str) -> None:
        """Say in the journal that the server began, and listen.

        Raises:
            ListenError: an address can't be listened on.
        """
        self._events.append(Started(version))
        self.tick()
        await self._listen(self._settings.port, acknowledges=False)
        if self._settings.ack_port is not None:
            await self._listen(self._settings.ack_port, acknowledges=True)
        self._sweep()

    async def _listen(self, port: int, *, acknowledges: bool) -> None:
        host = self._settings.host
        try:
            server = await self._loop.create_server(
                lambda: Connection(self, self._rules, acknowledges=acknowledges),
                host,
                port,
                backlog=_BACKLOG,
            )
        except OSError as error:
            key = "ack_port" if acknowledges else "port"
            raise ListenError(
                f"can't listen on {host} port {port} ({error.strerror or error}); "
                f"is another server running? [ingest] host and {key} say where to listen"
            ) from error
        self._servers.append(server)

    @property
    def ports(self) -> list[int]:
        """The real ports: that of the machines and, where there is one, that of acknowledgements."""
        return [server.sockets[0].getsockname()[1] for server in self._servers]

    @property
    def listening(self) -> bool:
        """Whether machines can connect."""
        return any(server.is_serving() for server in self._servers)

    def stop(self) -> None:
        """Accept nobody, end all streams, and make the last block."""
        for server in self._servers:
            server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self.connections):
            connection.pause()
            connection.end(Ending.SHUTDOWN, SHUTDOWN)
        self.tick()

    def hang_up(self) -> None:
        """Close what is still connected."""
        for connection in list(self.connections):
            connection.close()

    # What connections call.

    def admit(self, connection: Connection, transport: asyncio.Transport) -> None:
        """Take a new connection in, or refuse it."""
        address, connection.peer = _peer(transport)
        refused = self._refusal(address)
        if refused is not None:
            self._metrics.refused.labels(refused).inc()
            connection.ending = Ending.RESET
            transport.abort()
            return
        _keep_alive(transport)
        connection.id = self._clock.stamp()  # unique for ever, as no stamp is given twice
        connection.heard = self.now()
        self.connections.add(connection)
        self._metrics.opened.inc()
        self._events.append(Opened(connection.id, connection.peer))
        self._schedule()
        if self.gate.closed:  # the transport begins to read when this has returned, so later
            self._loop.call_soon(self._pause_late, connection)

    def _pause_late(self, connection: Connection) -> None:
        if self.gate.closed:
            connection.pause()

    def arrived(self, size: int) -> None:
        """A connection has sent so much."""
        self._waiting_bytes += size
        if self._timer is None:
            self._schedule()
        elif self._waiting_bytes >= _BLOCK_BYTES:
            self.tick()

    def ended(self, connection: Connection) -> None:
        """A connection's stream is over."""
        self._metrics.closed.labels(connection.why).inc()
        connection.heard = self.now()
        self._ended.append(connection)
        self._schedule()

    def forget(self, connection: Connection) -> None:
        """A connection's transport is gone."""
        self.connections.discard(connection)

    def acknowledge_again(self, connection: Connection) -> None:
        """What became durable while a connection could not be told."""
        if not any(pair[0] is connection for s in self._submitted for pair in s.acknowledge):
            connection.acknowledge(connection.records)

    # The tick.

    def _schedule(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(self._settings.tick_ms / 1000, self.tick)

    def tick(self) -> None:
        """Make a block of everything that has arrived."""
        begun = time.perf_counter()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ended, self._ended = self._ended, []
        self._metrics.received_bytes.inc(self._waiting_bytes)
        self._waiting_bytes = 0
        gathered = self.arrivals.take()
        events, self._events = self._events, []
        events += [Closed(c.id, c.why, c.bytes) for c in ended if c.id]
        if gathered.payload or events:
            wanting = self._hear(gathered)
            self._hand_on(self._block(gathered, events), wanting, [c for c in ended if c.acknowledges])
        self._metrics.tick_seconds.observe(time.perf_counter() - begun)

    def _hear(self, gathered: Gathered) -> list[tuple[Connection, int]]:
        """Note who was heard; who wants to be told, and of how many records."""
        now = self.now()
        wanting = []
        for connection, records in zip(gathered.senders, gathered.chunks["records"].tolist(), strict=True):
            if connection.ending is None:
                connection.heard = now
            if connection.acknowledges:
                connection.records += records
                wanting.append((connection, connection.records))
        return wanting

    def _block(self, gathered: Gathered, events: list[Event]) -> Block:
        return Block(
            self._next.block,
            self._settings.node_id,
            self._next.record,
            self._clock.stamp(),
            self._rules,
            tuple(events),
            gathered.chunks,
            gathered.payload,
        )

    def _hand_on(
        self, block: Block, wanting: list[tuple[Connection, int]], closing: list[Connection]
    ) -> None:
        self._next = Numbering(block.id + 1, block.next_record)
        self._metrics.received_records.inc(block.records)
        self._submitted.append(_Submitted(block.id, len(block.payload), wanting, closing))
        self._submitted_bytes += len(block.payload)
        self.settled.clear()
        self._submit(block)
        if self._submitted_bytes >= _QUEUE_HIGH:
            self.gate.close("commit_queue")

    def committed(self, last: int) -> None:
        """All blocks up to this one are durable."""
        while self._submitted and self._submitted[0].block <= last:
            done = self._submitted.popleft()
            self._submitted_bytes -= done.bytes
            for connection, records in done.acknowledge:
                connection.acknowledge(records)
            for connection in done.closing:
                connection.close_acknowledged()
        if not self._submitted:
            self.settled.set()
        if self._submitted_bytes <= _QUEUE_LOW:
            self.gate.open("commit_queue")

    # Limits.

    def _refusal(self, address: str) -> str | None:
        if len(self.connections) >= self._settings.max_connections:
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


def _peer(transport: asyncio.Transport) -> tuple[str, str]:
    """The address alone, and with its port as it is shown."""
    name = transport.get_extra_info("peername")
    if not name:  # it was gone before it was accepted
        return "", "unknown"
    host, port = name[0], name[1]
    return host, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _among(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return any((mapped or parsed) in network for network in networks)


def _keep_alive(transport: asyncio.Transport) -> None:
    """Let the kernel find out when the other side is gone without a word."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
