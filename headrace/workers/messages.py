"""What goes over the pipes between the parent and a worker.

To the worker: its task in one line of JSON, then an `Order` a line, or in JSON the server's changed
configuration, of which only `reload.WHILE_RUNNING` may differ. From it: messages in MessagePack, each
behind its length in four bytes, since blocks for the live view are among them.
"""

import asyncio
import struct
from enum import StrEnum
from typing import Final

import msgspec

from headrace.config import Config
from headrace.logs import LogFormat
from headrace.workers.figures import Family
from headrace.workers.plan import Plan
from ingest.claims import Sighting
from ingest.server import ServerStatistics
from parser.block import Block, decode_block

TASK_BYTES: Final = 64 << 20
"""More than a configuration can be, also one that lists what tens of thousands of machines may send for."""

MESSAGE_BYTES: Final = 64 << 20
"""More than a worker says at once: blocks of the live view are the most."""

_LENGTH: Final = struct.Struct(">I")


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
    """What came is no message; nothing that follows can be understood."""


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """A message with its length."""
    data = _encoder.encode(message)
    return _LENGTH.pack(len(data)) + data


async def read_message(stream: asyncio.StreamReader) -> Message | None:
    """The next message; None when there are no more, whole ones.

    Raises:
        NonsenseError: what comes is none.
    """
    try:
        (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
        if length > MESSAGE_BYTES:
            raise NonsenseError(f"a message of {length} bytes")
        data = await stream.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return _decode(data)


def _decode(data: bytes) -> Message:
    try:
        message: Message = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NonsenseError(str(error)) from error
    return message
