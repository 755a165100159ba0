"""A worker: a server without pages, in a process of its own.

It runs as `python -m headrace.workers.process`, started and watched by `headrace.workers.worker`. Its signals
are the parent's business: it ends, in order, when its input does.
"""

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Final, cast

import structlog
import uvloop

from headrace.config import Config
from headrace.logs import configure_logs, set_level
from headrace.starting import StartOptions, start_server, take_over
from headrace.workers.figures import families
from headrace.workers.forwarding import Forwarder
from headrace.workers.messages import (
    Heard,
    Listening,
    Message,
    NonsenseError,
    Order,
    Refused,
    Report,
    WorkerTask,
    encode,
    read_order,
    read_task,
)
from headrace.workers.plan import worker_config
from ingest.claims import Sighting
from ingest.errors import IngestError
from ingest.metrics import IngestMetrics
from ingest.server import IngestServer
from storage.errors import StorageError

_REPORT_EVERY_S: Final = 1.0
_UNREAD_BYTES: Final = 4 << 20
_LAST_WORDS_S: Final = 5.0

_log = structlog.get_logger("headrace")

GOOD: Final = 0
NOT_DURABLE: Final = 1
REFUSED: Final = 2
"""What its process ends with."""


class _Out(asyncio.BaseProtocol):
    """The pipe to the parent."""

    def __init__(self) -> None:
        self._closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """All was written, or the parent is gone."""
        del exc
        if not self._closed.done():
            self._closed.set_result(None)

    def has_room(self) -> bool:
        """Whether the parent reads what it is told."""
        return self._transport.get_write_buffer_size() < _UNREAD_BYTES

    def say(self, message: Message) -> None:
        """Tell the parent, if it is there."""
        if not self._transport.is_closing():
            self._transport.write(encode(message))

    def heard(self, sightings: Sequence[Sighting]) -> None:
        """Tell which devices came on which connections, if that is read."""
        if sightings and self.has_room():
            self.say(Heard(list(sightings)))

    async def finish(self) -> None:
        """Wait until it has heard the last word, for some time."""
        self._transport.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed, _LAST_WORDS_S)


class _Link:
    """Both pipes."""

    def __init__(self, orders: asyncio.StreamReader, out: _Out) -> None:
        self.orders = orders
        self.out = out

    @classmethod
    async def open(cls) -> "_Link":
        """Take standard input and output for it; what anything prints from now on goes to standard error."""
        loop = asyncio.get_running_loop()
        words = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        orders = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        _, out = await loop.connect_write_pipe(_Out, words)
        return cls(orders, out)


class _Reporting:
    """What the parent is told about the server: each second, and when it asks."""

    def __init__(self, server: IngestServer, out: _Out) -> None:
        self._server = server
        self._out = out
        self.asked = asyncio.Event()

    def report(self) -> None:
        """Say how it is."""
        if self._out.has_room():
            self._out.say(Report(self._server.statistics, families(self._server.metrics.registry)))

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.asked.wait(), _REPORT_EVERY_S)
            self.asked.clear()
            self.report()


async def _work() -> int:
    """Serve until the input ends; what the process ends with."""
    link = await _Link.open()
    task = await read_task(link.orders)
    if task is None:  # the parent is gone already
        return GOOD
    configure_logs(task.log_format)
    set_level(task.config.log.stderr_level)
    structlog.contextvars.bind_contextvars(worker=task.number)
    live = Forwarder(link.out.say, link.out.has_room)
    live.watched = task.watched
    options = StartOptions(task.adopt_node, task.accept_clock)
    try:
        config = worker_config(task.config, task.plan, task.number)
        server = await start_server(config, options, live, link.out.heard, IngestMetrics())
    except (IngestError, StorageError) as error:
        link.out.say(Refused(str(error)))
        await link.out.finish()
        return REFUSED
    link.out.say(Listening())
    status = await _serve(task, server, live, link)
    await link.out.finish()
    return status


async def _serve(task: WorkerTask, server: IngestServer, live: Forwarder, link: _Link) -> int:
    reporting = _Reporting(server, link.out)
    running = asyncio.create_task(reporting.run(), name="reports")
    async for order in _orders(link.orders):
        if isinstance(order, Config):
            await _change(task, server, order)
        elif order is Order.REPORT:
            reporting.asked.set()
        else:
            live.watched = order is Order.WATCH
    ending = await server.stop()
    running.cancel()
    reporting.report()
    return GOOD if ending.durable else NOT_DURABLE


async def _orders(stream: asyncio.StreamReader) -> AsyncIterator[Order | Config]:
    """What the parent says, until it wants the end; what can't be understood of it is passed over."""
    while True:
        try:
            order = await read_order(stream)
        except NonsenseError as error:
            _log.error("order_not_understood", reason=str(error))
            continue
        if order is None:
            return
        yield order


async def _change(task: WorkerTask, server: IngestServer, config: Config) -> None:
    """Go by another configuration; the parent has seen that it can be used."""
    try:
        await take_over(server, worker_config(config, task.plan, task.number))
    except IngestError as error:  # the certificates were changed once more meanwhile
        _log.error("configuration_refused", reason=str(error))
    except Exception as error:  # noqa: BLE001  # a mistake of ours must not end what machines are connected to
        _log.exception("configuration_refused", reason=repr(error))


def main() -> None:
    """Work until the parent closes our input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        status = uvloop.run(_work())
    except BaseException:  # noqa: BLE001  # whatever it is, the parent starts another one
        traceback.print_exc()
        os._exit(1)  # the journal's threads must not be waited for
    sys.exit(status)


if __name__ == "__main__":
    main()
