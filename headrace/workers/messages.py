"""What goes over the pipes between the parent and a worker.

To the worker: its task, then orders, and the server's changed configuration, of which only
`reload.WHILE_RUNNING` may differ. From it: messages, blocks for the live view among them. All of it in
MessagePack, each behind its length in four bytes. JSON has no infinite number, which a limit may be.
"""

import asyncio
import struct
from enum import StrEnum
from typing import Final, TypeVar

import msgspec

from headrace.config import Config
from headrace.errors import ConfigError
from headrace.logs import LogFormat
from headrace.workers.figures import Family
from headrace.workers.plan import Plan
from ingest.claims import Sighting
from ingest.server import ServerStatistics
from parser.block import Block, decode_block

MESSAGE_BYTES: Final = 64 << 20
"""More than is said at once: blocks of the live view are the most, or a configuration that lists what tens of
thousands of machines may send for."""

_LENGTH: Final = struct.Struct(">I")

T = TypeVar("T")


class WorkerTask(msgspec.Struct, frozen=True):
    """What a worker is to do."""

    number: int
    config: Config
    """The server's; `worker_config` makes the worker's own of it."""

    plan: Plan
    adopt_node: bool
    accept_clock: bool
    log_format: LogFormat
    watched: bool
    """Whether somebody looks at the live view just now."""


class Order(StrEnum):
    """What a worker is told beside its task."""

    REPORT = "report"
    WATCH = "watch"
    UNWATCH = "unwatch"


class Listening(msgspec.Struct, frozen=True, tag="listening"):
    """Machines can connect."""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """It can't start as it is configured or called."""

    reason: str


class Report(msgspec.Struct, frozen=True, tag="report"):
    """How it is at the moment; about one a second, and when it is asked."""

    statistics: ServerStatistics
    figures: list[Family]


class SeenBlock(msgspec.Struct, frozen=True, array_like=True):
    """A block as the journal would store it."""

    id: int
    header: bytes
    payload: bytes
    check: int

    @classmethod
    def of(cls, block: Block) -> "SeenBlock":
        """What can be made a block again elsewhere."""
        header, check = block.encode()
        return cls(block.id, header, block.payload, check)

    def block(self) -> Block:
        """The block."""
        return decode_block(self.id, self.header, self.payload, self.check)


class Seen(msgspec.Struct, frozen=True, tag="seen"):
    """Blocks that became durable while somebody watches; some may be left out."""

    blocks: list[SeenBlock]


class Heard(msgspec.Struct, frozen=True, tag="heard"):
    """Which devices came on which of its connections; some may be left out."""

    sightings: list[Sighting]


Message = Listening | Refused | Report | Seen | Heard


class NonsenseError(Exception):
    """What came is no message."""


_encoder: Final = msgspec.msgpack.Encoder()
_messages: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)
_tasks: Final = msgspec.msgpack.Decoder(WorkerTask)
_orders: Final[msgspec.msgpack.Decoder[Order | Config]] = msgspec.msgpack.Decoder(Order | Config)


def encode(said: Message | WorkerTask | Order | Config) -> bytes:
    """A message, a task or an order with its length.

    Raises:
        ConfigError: it is longer than any may be, which only a configuration can be.
    """
    data = _encoder.encode(said)
    if len(data) > MESSAGE_BYTES:
        raise ConfigError(f"a configuration of {len(data) >> 20} MiB is more than workers can be told")
    return _LENGTH.pack(len(data)) + data


async def read_message(stream: asyncio.StreamReader) -> Message | None:
    """What a worker says next; None when there are no more, whole ones.

    Raises:
        NonsenseError: what comes is none.
    """
    return await _read(stream, _messages)


async def read_task(stream: asyncio.StreamReader) -> WorkerTask | None:
    """What a worker is to do; None where nobody says it any more.

    Raises:
        NonsenseError: what comes is no task.
    """
    return await _read(stream, _tasks)


async def read_order(stream: asyncio.StreamReader) -> Order | Config | None:
    """What a worker is told next, beside its task; None when it is to end.

    Raises:
        NonsenseError: what comes is no order.
    """
    return await _read(stream, _orders)


async def _read(stream: asyncio.StreamReader, decoder: msgspec.msgpack.Decoder[T]) -> T | None:
    try:
        (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
        if length > MESSAGE_BYTES:
            raise NonsenseError(f"a message of {length} bytes")
        data = await stream.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NonsenseError(str(error)) from error
