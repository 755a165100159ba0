"""The wiring of one server process: configuration in, running parts out."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from importlib.metadata import version
from typing import NamedTuple

import structlog

from headrace.config import Config
from headrace.errors import ConfigError, FailedError
from headrace.logs import set_level
from headrace.office import run_office
from ingest.assembler import Numbering
from ingest.errors import IngestError
from ingest.journal import Journal
from ingest.metrics import IngestMetrics
from ingest.server import IngestServer, ServerStatistics
from ingest.sink import SinkTask
from storage.base import Claim
from storage.errors import StorageError
from storage.factory import open_store, open_writer
from storage.live import LiveFeed
from web.app import create_app
from web.health import Readiness, SinkReport
from web.server import serve_http
from web.session import CookieMaker

SINK = "tables"
"""The name of the sink that writes the tables."""

_log = structlog.get_logger("headrace")


class Running(NamedTuple):
    """A server that is up."""

    host: str
    port: int
    """Where machines connect."""

    ack_port: int | None
    url: str
    """Of the pages."""

    server: IngestServer


class StartOptions(NamedTuple):
    """What only a person can decide at a start."""

    adopt_node: bool = False
    accept_clock: bool = False
    mes_token: str = ""
    """What the supplier's MES knows this gateway by."""


@asynccontextmanager
async def run_server(config: Config, options: StartOptions) -> AsyncIterator[Running]:
    """A server for as long as the context lasts.

    Raises:
        ConfigError: it can't start as it is configured or called.
        FailedError: it ended without everything being durable.
    """
    feed = LiveFeed()
    try:
        server = await _start(config, options, feed)
    except (IngestError, StorageError) as error:
        raise ConfigError(str(error)) from error
    try:
        async with _pages(config, server, feed, options.mes_token) as url:
            ports = server.listener.ports
            yield Running(config.ingest.host, ports[0], ports[1] if len(ports) > 1 else None, url, server)
            _log.info("stopping")
            await server.stop()
    except OSError as error:
        raise ConfigError(str(error)) from error
    finally:
        ending = await server.stop()
        _log.info("stopped", durable=ending.durable, flushed=ending.flushed)
    if not ending.durable:
        raise FailedError("not everything that arrived is durable; nothing of that was acknowledged")


async def _start(config: Config, options: StartOptions, feed: LiveFeed) -> IngestServer:
    journal = Journal(config.journal, config.ingest.node_id)
    if not options.accept_clock:
        journal.check_clock()
    claim = _claim(config, journal, adopt=options.adopt_node)
    task = SinkTask(str(journal.folder), journal.id, config.ingest.node_id, config.storage)
    server = IngestServer(
        config.ingest,
        config.rules,
        journal,
        _numbering(journal, claim),
        sinks={SINK: task},
        feed=feed,
        metrics=IngestMetrics(),
    )
    await server.start(version("headrace"))
    return server


def _claim(config: Config, journal: Journal, *, adopt: bool) -> Claim | None:
    """Take the node for this journal; None where the tables can't say just now."""
    try:
        with closing(open_writer(config.storage)) as writer:
            return writer.claim(config.ingest.node_id, journal.id, adopt=adopt)
    except StorageError as error:
        if not error.retriable:
            raise
        if journal.is_new:
            raise type(error)(
                f"{error}; a journal's first start needs the database, to learn which numbers are taken"
            ) from error
        _log.warning("tables_not_reachable", reason=str(error))
        return None


def _numbering(journal: Journal, claim: Claim | None) -> Numbering:
    """Go on above everything that journal and tables know."""
    block, record = journal.tail.block, journal.tail.next_record
    if claim is not None:
        record = max(record, claim.next_record)
        block = max(block, claim.cursor.block if claim.cursor is not None else 0)
    return Numbering(block + 1, record)


def take_over(server: IngestServer, config: Config) -> None:
    """Let a running server go by another configuration, of which only `reload.WHILE_RUNNING` may differ."""
    server.change(config.ingest, config.rules, keep_hours=config.journal.keep_hours)
    set_level(config.log.stderr_level)


@asynccontextmanager
async def _pages(config: Config, server: IngestServer, feed: LiveFeed, mes_token: str) -> AsyncIterator[str]:
    store = open_store(config.storage)
    registry = server.metrics.registry
    try:
        async with run_office(config, registry, mes_token) as office:
            app = create_app(
                store=store,
                feed=feed,
                registry=registry,
                readiness=lambda: readiness(server.statistics),
                office=office,
                session_cookie=CookieMaker(config.http.https, config.accounts.session_hours * 3_600),
            )
            async with serve_http(app, config.http, before_stop=feed.end) as address:
                yield address.url
    finally:
        await store.close()


def readiness(now: ServerStatistics) -> Readiness:
    """What `/readyz` says: sinks are reported, but only what machines would feel makes it unready."""
    sinks = [
        SinkReport(sink.name, str(sink.state), sink.newest - sink.block, sink.trouble or None)
        for sink in now.sinks
    ]
    return Readiness(not now.troubles, now.troubles, sinks)


async def until_told() -> None:
    """Wait for SIGTERM or SIGINT; the second one is as good as the first."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    await told.wait()
