"""A server for tests: keeps the bytes of each connection, and acknowledges as it is told."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, cast

DEADLINE_S = 30.0


@dataclass
class Stream:
    """What came over one connection."""

    port: int
    """The client's."""

    data: bytearray = field(default_factory=bytearray)
    ended: str = ""
    """clean or reset, once it is over."""

    packets: list[int] = field(default_factory=list)
    """How many bytes each read brought."""

    @property
    def records(self) -> list[bytes]:
        """Records that a delimiter ended, without it."""
        return bytes(self.data).split(b"#")[:-1]

    @property
    def tail(self) -> bytes:
        """What stands behind the last delimiter."""
        return bytes(self.data).rpartition(b"#")[2]


class Sink:
    """Listens on a free port; use as an asynchronous context manager."""

    def __init__(self, *, acks: bool = False, port: int = 0) -> None:
        """Acknowledge what is read, if `acks`."""
        self.acks = acks
        self.acks_at_most: int | None = None
        """Acknowledge no more than so many records of a connection, but never fewer than before."""

        self.says = b""
        """Say this to every byte that comes, instead."""

        self.closes = True
        """Close where a client half-closes."""

        self.reads = True
        """Take what clients send; see `pause`."""

        self.streams: list[Stream] = []
        self.open: set[_Connection] = set()
        self.port = port

    async def __aenter__(self) -> Self:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        self._server.close()
        self.drop()
        await until(lambda: not self.open)

    def drop(self) -> None:
        """Break all connections."""
        for connection in list(self.open):
            connection.transport.abort()

    def pause(self, *, reads: bool) -> None:
        """Stop reading, or go on."""
        self.reads = reads
        for connection in self.open:
            if reads:
                connection.transport.resume_reading()
            else:
                connection.transport.pause_reading()

    @property
    def received(self) -> int:
        """Delimiters so far."""
        return sum(stream.data.count(b"#") for stream in self.streams)

    async def more(self, records: int) -> None:
        """Wait until so many more have come."""
        goal = self.received + records
        await until(lambda: self.received >= goal)

    def records_of(self) -> dict[bytes, list[bytes]]:
        """Each device's records in the order of arrival."""
        by_device: dict[bytes, list[bytes]] = defaultdict(list)
        for stream in self.streams:
            for record in stream.records:
                by_device[record.partition(b",")[0]].append(record)
        return by_device


class _Connection(asyncio.Protocol):
    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.acknowledged = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.stream = Stream(transport.get_extra_info("peername")[1])
        self.sink.streams.append(self.stream)
        self.sink.open.add(self)
        if not self.sink.reads:
            self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.stream.data += data
        self.stream.packets.append(len(data))
        if self.sink.says:
            self.transport.write(self.sink.says)
        elif self.sink.acks:
            self._acknowledge(len(self.stream.records))

    def eof_received(self) -> bool:
        if self.sink.acks and self.stream.tail:
            self._acknowledge(len(self.stream.records) + 1)
        return not self.sink.closes

    def connection_lost(self, exc: Exception | None) -> None:
        self.stream.ended = "reset" if exc else "clean"
        self.sink.open.discard(self)

    def _acknowledge(self, records: int) -> None:
        most = self.sink.acks_at_most
        self.acknowledged = max(self.acknowledged, records if most is None else min(records, most))
        self.transport.write(b"ACK,%d#" % self.acknowledged)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it took too long.
    """
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.005)
