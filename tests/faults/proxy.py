"""A TCP proxy on loopback that does to a connection what a bad network does.

It knows of the traffic with Cassandra only where a frame of the native protocol ends: nine bytes, of which
the last four are the length of what follows. So a single answer can be lost while its connection lives on,
and a connection can be cut in the middle of a frame. A delay holds up every frame by the same time, and none
of them for another. Of other traffic (`read_some`) a frame is what one read brings.
"""

import asyncio
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from enum import Enum, auto
from types import TracebackType
from typing import Final, NamedTuple, NoReturn, Self, TypeVar, cast

T = TypeVar("T")

_HEADER_BYTES: Final = 9
_HELD_FRAMES: Final = 4096
_SOME_BYTES: Final = 1 << 16


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """A frame of Cassandra's native protocol."""
    header = await reader.readexactly(_HEADER_BYTES)
    return header + await reader.readexactly(int.from_bytes(header[-4:]))


async def read_some(reader: asyncio.StreamReader) -> bytes:
    """What is there, in traffic of any kind.

    Raises:
        EOFError: the connection has ended.
    """
    some = await reader.read(_SOME_BYTES)
    if not some:
        raise EOFError
    return some


Read = Callable[[asyncio.StreamReader], Awaitable[bytes]]


class Fate(Enum):
    """What becomes of a frame."""

    ARRIVES = auto()
    IS_LOST = auto()
    IS_CUT = auto()
    """Half of it arrives, then both ends see the connection end."""


class _Held(NamedTuple):
    due: float
    frame: bytes
    fate: Fate


def arrives(_frame: bytes) -> Fate:
    """As in a good network."""
    return Fate.ARRIVES


class Direction:
    """What becomes of frames that travel one way; may be changed at any time."""

    def __init__(self) -> None:
        self.fate: Callable[[bytes], Fate] = arrives
        """Asked for each frame."""

        self.delay_s = 0.0
        self.met: Counter[Fate] = Counter()
        """How many frames met each fate."""

    def decide(self, frame: bytes) -> Fate:
        """What becomes of this frame."""
        fate = self.fate(frame)
        self.met[fate] += 1
        return fate


class Proxy:
    """Listens on a port of its own, for as long as it is entered."""

    def __init__(
        self, host: str, port: int, *, read: Read = read_frame, listen: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        """What is sent to it goes to this address; `read` says what a frame is."""
        self.port = 0
        self._listen = listen
        self.target = (host, port)
        """May be changed at any time, for new connections."""

        self.requests = Direction()
        self.answers = Direction()
        self.resets = True
        """Whether a connection that is cut is reset; else it seems as if the other side had closed it."""

        self._read = read
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._open: set[asyncio.Task[None]] = set()
        self._refuses = False

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, *self._listen))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut everything and be gone."""
        self._server.close()
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self, *, refuse_s: float = 0.0) -> None:
        """Cut all connections, and let no new one through for so long."""
        self._refuses = True
        self._do(self._cut())
        time.sleep(refuse_s)
        self._refuses = False

    def _do(self, task: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(task, self._loop).result(10)

    async def _cut(self) -> None:
        for connection in self._open:
            connection.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: whichever side ends it, ends both."""
        task = cast(asyncio.Task[None], asyncio.current_task())
        self._open.add(task)
        try:
            if not self._refuses:
                await self._connect(reader, writer)
        except* (OSError, EOFError):
            pass  # that is how connections end
        finally:
            self._end(writer)
            self._open.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self.target)
        try:
            async with asyncio.TaskGroup() as group:
                self._carry(group, reader, far_writer, self.requests)
                self._carry(group, far_reader, writer, self.answers)
        finally:
            self._end(far_writer)

    def _carry(
        self,
        group: asyncio.TaskGroup,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        direction: Direction,
    ) -> None:
        """Carry frames one way; held between two tasks, so that a delay holds up none for another."""
        held: asyncio.Queue[_Held] = asyncio.Queue(_HELD_FRAMES)
        group.create_task(_take(reader, self._read, held, direction))
        group.create_task(_give(held, writer))

    def _end(self, writer: asyncio.StreamWriter) -> None:
        if self.resets:
            connection = writer.get_extra_info("socket")
            with suppress(OSError):  # the other side was first, and the socket is closed
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


async def _take(
    reader: asyncio.StreamReader, read: Read, held: "asyncio.Queue[_Held]", direction: Direction
) -> NoReturn:
    while True:
        frame = await read(reader)
        await held.put(_Held(time.monotonic() + direction.delay_s, frame, direction.decide(frame)))


async def _give(held: "asyncio.Queue[_Held]", writer: asyncio.StreamWriter) -> NoReturn:
    while True:
        due, frame, fate = await held.get()
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if fate is not Fate.IS_LOST:
            writer.write(frame if fate is Fate.ARRIVES else frame[: len(frame) // 2])
            await writer.drain()
        if fate is Fate.IS_CUT:
            raise ConnectionResetError
