"""The wiring of one server process: configuration in, running parts out."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import structlog
from prometheus_client import CollectorRegistry

from headrace.config import Config
from headrace.errors import ConfigError, FailedError
from headrace.office import run_office
from headrace.starting import StartOptions, start_server, take_over, warn_of_others
from ingest.claims import Claims
from ingest.errors import IngestError
from ingest.live import LivePublisher
from ingest.metrics import IngestMetrics
from ingest.server import ServerStatistics
from storage.errors import StorageError
from storage.factory import open_store
from storage.live import LiveFeed
from web.app import create_app
from web.health import Readiness, SinkReport, at_hand
from web.server import serve_http
from web.session import CookieMaker

_log = structlog.get_logger("headrace")


class Running(NamedTuple):
    """A server that is up."""

    host: str
    port: int
    """Where machines connect."""

    ack_port: int | None
    url: str
    """Of the pages."""

    take_over: Callable[[Config], Awaitable[None]]
    """Makes another configuration count, of which only `reload.WHILE_RUNNING` may differ, or raises an
    IngestError having changed nothing."""


class Source(NamedTuple):
    """What pages and probes show of the side that takes data."""

    feed: LiveFeed
    registry: CollectorRegistry
    readiness: Callable[[], Readiness]
    claimed_twice: Callable[[], frozenset[str]]
    """Devices that two connections have sent for lately."""

    refresh: Callable[[], Awaitable[None]] = at_hand
    """Brings in what other processes know, for registry and readiness."""


@asynccontextmanager
async def run_server(config: Config, options: StartOptions) -> AsyncIterator[Running]:
    """A server for as long as the context lasts.

    Raises:
        ConfigError: it can't start as it is configured or called.
        FailedError: it ended without everything being durable.
    """
    feed, metrics = LiveFeed(), IngestMetrics()
    claims = Claims(metrics.registry)
    try:
        warn_of_others(config, [Path(config.journal.path)])
        server = await start_server(config, options, LivePublisher(feed), claims.heard, metrics)
    except (IngestError, StorageError) as error:
        raise ConfigError(str(error)) from error
    source = Source(
        feed,
        metrics.registry,
        lambda: readiness(server.statistics),
        lambda: claims.shown,
    )
    try:
        async with run_pages(config, source, options.mes_token) as url:
            ports = server.listener.ports
            ack_port = ports[1] if len(ports) > 1 else None
            yield Running(config.ingest.host, ports[0], ack_port, url, partial(take_over, server))
            _log.info("stopping")
            await server.stop()
    except OSError as error:
        raise ConfigError(str(error)) from error
    finally:
        ending = await server.stop()
        _log.info("stopped", durable=ending.durable, flushed=ending.flushed)
    if not ending.durable:
        raise FailedError("not everything that arrived is durable; nothing of that was acknowledged")


@asynccontextmanager
async def run_pages(config: Config, source: Source, mes_token: str) -> AsyncIterator[str]:
    """Pages, API and the order gateway for as long as the context lasts; where they are.

    Raises:
        OSError: their address can't be listened on.
    """
    store = open_store(config.storage)
    try:
        async with run_office(config, source.registry, mes_token) as office:
            app = create_app(
                store=store,
                feed=source.feed,
                registry=source.registry,
                readiness=source.readiness,
                refresh=source.refresh,
                office=office,
                session_cookie=CookieMaker(config.http.https, config.accounts.session_hours * 3_600),
                claimed_twice=source.claimed_twice,
            )
            async with serve_http(
                app, config.http, before_stop=source.feed.end, registry=source.registry
            ) as address:
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


class Stop:
    """SIGTERM and SIGINT from now on, to the task that starts; the second one is as good as the first.

    A start is broken off: what it has taken by then ends in order, and nothing is waited for any more.
    """

    def __init__(self) -> None:
        self._told = asyncio.Event()
        self._starting = asyncio.current_task()
        self.broke_off = False
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._hear)

    def _hear(self) -> None:
        if self._starting is not None and not self._told.is_set():
            self.broke_off = self._starting.cancel()
        self._told.set()

    async def wait(self) -> None:
        """All is up: wait until told."""
        self._starting = None
        await self._told.wait()


@contextmanager
def stopping() -> Iterator[Stop]:
    """To be entered before anybody is let in; what is broken off ends here."""
    stop = Stop()
    try:
        yield stop
    except asyncio.CancelledError:
        if not stop.broke_off:
            raise
