"""The tick that makes one block of what all connections delivered.

A tick comes `tick_ms` after the first byte that waits for one, or as soon as 1 MiB waits; while nothing
arrives nothing happens. It brings together what each connection has sent, numbers the records, and hands
the block to the journal. When the block is durable the acknowledgements go out.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from ingest.arrivals import Arrivals, Gathered
from ingest.clock import StampClock
from ingest.connection import Connection
from ingest.gate import Gate
from ingest.metrics import IngestMetrics
from ingest.settings import MIB, IngestSettings
from parser.block import Allowance, Block, Closed, Event
from parser.framing import CUT_OFF
from parser.settings import Rules

_BLOCK_BYTES: Final = 1 * MIB
_QUEUE_HIGH: Final = 8 * MIB
_QUEUE_LOW: Final = 2 * MIB

_OF_BLOCK: Final = 1024
_OF_ONE: Final = 150
"""Bytes that a block takes beside those that came, and that each event, each who waits to be told and each
identity take, measured with tracemalloc. With small records they are most of it."""


class Numbering(NamedTuple):
    """What the next block begins with."""

    block: int
    record: int


class _Submitted(NamedTuple):
    """A block on its way to the disk, and whom to tell when it is there."""

    block: int
    bytes: int
    acknowledge: dict[Connection, int]
    closing: list[Connection]


class _Lists:
    """Which devices each identity may send for, as configured at one time."""

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._listed: dict[str | None, tuple[str, ...]] = {
            identity: settings.devices_of(identity) for identity in settings.identities
        }
        self._bytes = {devices[0]: sum(map(len, devices)) for devices in self._listed.values()}

    def of(self, identity: str | None) -> tuple[str, ...]:
        """One tuple for all blocks, where a gateway lists thousands."""
        return self._listed.get(identity) or self._settings.devices_of(identity)

    def bytes_of(self, allowance: Allowance) -> int:
        """What its list takes in a block, about; nothing where none was configured."""
        return self._bytes.get(allowance.devices[0], 0) if allowance.devices else 0


class Assembler:
    """What has arrived since the last tick, and what is on its way to the disk."""

    def __init__(
        self,
        settings: IngestSettings,
        rules: Rules,
        clock: StampClock,
        numbering: Numbering,
        *,
        submit: Callable[[Block], None],
        gate: Gate,
        metrics: IngestMetrics,
    ) -> None:
        """`submit` gets each block, and `committed` has to be called with it when it is durable."""
        self._settings = settings
        self._rules = rules
        self._clock = clock
        self._next = numbering
        self._submit = submit
        self._gate = gate
        self._metrics = metrics
        self._lists = _Lists(settings)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.arrivals = Arrivals(rules.delimiter)
        self._ended: list[Connection] = []
        self._events: list[Event] = []
        self._waiting_bytes = 0
        self._submitted: deque[_Submitted] = deque()
        self._submitted_bytes = 0
        self.settled = asyncio.Event()
        """Set while nothing that was made into a block waits to become durable."""

        self.settled.set()

    def change(self, settings: IngestSettings, rules: Rules) -> None:
        """Go by these rules and lists of devices from now on.

        What has arrived goes into a block with those before, and is read by them whenever that may be.
        Delimiter and `max_record_bytes` have to stay: connections are framed by them.
        """
        self.tick()
        self._rules, self._lists = rules, _Lists(settings)

    # What connections call.

    def happened(self, event: Event) -> None:
        """Something that the next block is to tell."""
        self._events.append(event)
        self._schedule()

    def arrived(self, size: int) -> None:
        """A connection has sent so much."""
        self._waiting_bytes += size
        if self._timer is None:
            self._schedule()
        elif self._waiting_bytes >= _BLOCK_BYTES:
            self.tick()

    def ended(self, connection: Connection) -> None:
        """A connection's stream is over."""
        self._ended.append(connection)
        self._schedule()

    def acknowledge_again(self, connection: Connection) -> None:
        """What became durable while a connection could not be told."""
        if not any(connection in s.acknowledge for s in self._submitted):
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

    def _hear(self, gathered: Gathered) -> dict[Connection, int]:
        """Note who was heard; who wants to be told, and of how many records."""
        now = self._loop.time()
        wanting = {}
        chunks = gathered.chunks
        rows = zip(gathered.senders, chunks["records"].tolist(), chunks["ending"].tolist(), strict=True)
        for connection, records, ending in rows:
            if connection.ending is None:
                connection.heard = now
            if connection.acknowledges:
                connection.records += records - (ending in CUT_OFF)
                wanting[connection] = connection.records
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
            self._allowed(gathered.senders),
        )

    def _allowed(self, senders: list[Connection]) -> tuple[Allowance, ...] | None:
        if not self._settings.bind_identity:
            return None
        named: dict[str | None, dict[int, None]] = {}
        for sender in senders:
            named.setdefault(sender.identity, {})[sender.id] = None
        return tuple(Allowance(tuple(ids), self._lists.of(identity)) for identity, ids in named.items())

    def _hand_on(self, block: Block, wanting: dict[Connection, int], closing: list[Connection]) -> None:
        self._next = Numbering(block.id + 1, block.next_record)
        self._metrics.received_records.inc(block.records)
        size = self._size(block, len(wanting))
        self._submitted.append(_Submitted(block.id, size, wanting, closing))
        self._submitted_bytes += size
        self.settled.clear()
        self._submit(block)
        if self._submitted_bytes >= _QUEUE_HIGH:
            self._gate.close("commit_queue")

    def _size(self, block: Block, wanting: int) -> int:
        """What is kept of a block until it is durable, in memory and as it is written, about."""
        allowed = block.allowed or ()
        listed = sum(map(self._lists.bytes_of, allowed))
        own = len(block.payload) + block.chunks.nbytes + listed
        return own + _OF_BLOCK + _OF_ONE * (len(block.events) + wanting + len(allowed))

    def committed(self, last: int) -> None:
        """All blocks up to this one are durable; what depends on it goes on before anybody is told."""
        durable = []
        while self._submitted and self._submitted[0].block <= last:
            durable.append(self._submitted.popleft())
            self._submitted_bytes -= durable[-1].bytes
        if not self._submitted:
            self.settled.set()
        if self._submitted_bytes <= _QUEUE_LOW:
            self._gate.open("commit_queue")
        for done in durable:
            for connection, records in done.acknowledge.items():
                connection.acknowledge(records)
            for connection in done.closing:
                connection.close_acknowledged()
