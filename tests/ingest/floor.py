"""A listener on real sockets whose blocks become durable when the test says so."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from ingest.assembler import Numbering
from ingest.clock import StampClock
from ingest.listener import Listener
from ingest.metrics import IngestMetrics
from ingest.settings import IngestSettings
from parser.block import Block, Closed, Event, Opened
from parser.framing import Ending
from parser.settings import Rules
from tests.ingest.building import DEADLINE_S

RECORD = b"E0001,35.2,8000,2.5,3.7,380#"


async def reached(condition: Callable[[], object], what: str) -> None:
    """Wait for something that happens in this loop.

    Raises:
        AssertionError: it never did; `what` says what it was.
    """
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        await asyncio.sleep(0.001)


class Floor:
    """The listener, the blocks it made, and machines that connect to it."""

    def __init__(self, settings: IngestSettings, rules: Rules) -> None:
        self.blocks: list[Block] = []
        self.commits = True
        """Whether blocks become durable by themselves."""

        self.metrics = IngestMetrics()
        self.listener = Listener(
            settings,
            rules,
            StampClock(),
            Numbering(1, 100),
            submit=self._submit,
            metrics=self.metrics,
        )

    def _submit(self, block: Block) -> None:
        self.blocks.append(block)
        if self.commits:
            asyncio.get_running_loop().call_soon(self.listener.assembler.committed, block.id)

    def commit(self) -> None:
        """Make all blocks durable that are there."""
        self.listener.assembler.committed(self.blocks[-1].id)

    @property
    def records(self) -> int:
        """Numbers taken so far."""
        return sum(block.records for block in self.blocks)

    @property
    def events(self) -> list[Event]:
        """What happened to connections, in order."""
        return [event for block in self.blocks for event in block.events]

    @property
    def opened(self) -> list[Opened]:
        """Who came."""
        return [event for event in self.events if isinstance(event, Opened)]

    @property
    def closed(self) -> list[Closed]:
        """Who went."""
        return [event for event in self.events if isinstance(event, Closed)]

    @property
    def endings(self) -> list[Ending]:
        """How chunks ended, in order."""
        return [Ending(int(ending)) for block in self.blocks for ending in block.chunks["ending"]]

    def stream(self, connection: int) -> bytes:
        """All payload of a connection, in the order of its places."""
        parts: list[bytes] = []
        for block in self.blocks:
            at = 0
            for chunk in block.chunks:
                if chunk["connection"] == connection:
                    parts.append(block.payload[at : at + int(chunk["bytes"])])
                at += int(chunk["bytes"])
        return b"".join(parts)

    async def connect(self, *, acknowledged: bool = False) -> "Machine":
        """A machine that has been admitted."""
        before = len(self.opened)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.ports[acknowledged])
        await reached(lambda: len(self.opened) > before, "the opening")
        return Machine(reader, writer, self.opened[before].connection)


class Machine:
    """The other end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number

    async def send(self, data: bytes) -> None:
        """Deliver bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def acknowledged(self) -> int:
        """The next acknowledgement."""
        text = await asyncio.wait_for(self.reader.readuntil(b"#"), DEADLINE_S)
        assert text.startswith(b"ACK,")
        return int(text[4:-1])

    async def rest(self) -> bytes:
        """What still comes until the server closes; a reset counts as that."""
        try:
            return await asyncio.wait_for(self.reader.read(), DEADLINE_S)
        except ConnectionResetError:
            return b""
        finally:
            self.writer.close()

    def reset(self) -> None:
        """Break the connection."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        """Close it cleanly."""
        self.writer.close()
        await self.writer.wait_closed()


@asynccontextmanager
async def floor(settings: IngestSettings | None = None, rules: Rules | None = None) -> AsyncIterator[Floor]:
    """A listener on free ports, with acknowledgements."""
    settings = settings or IngestSettings(port=0, ack_port=0, tick_ms=1)
    serving = Floor(settings, rules or Rules())
    await serving.listener.start("0.0.0")
    try:
        yield serving
    finally:
        serving.listener.stop()
        serving.listener.hang_up()
        await reached(lambda: not serving.listener.connections, "the end of all connections")
