"""The wiring of a server with workers: the counterpart of `headrace.serve.run_server`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import structlog

from headrace.config import Config
from headrace.errors import ConfigError, FailedError
from headrace.logs import LogFormat
from headrace.serve import Running, Source, run_pages
from headrace.starting import StartOptions, warn_of_others
from headrace.workers.crew import Crew
from headrace.workers.plan import ReservedPorts, check, worker_folders
from ingest.errors import IngestError
from storage.errors import StorageError
from storage.factory import open_writer

_log = structlog.get_logger("headrace")


@asynccontextmanager
async def run_workers(
    config: Config, options: StartOptions, workers: int, log_format: LogFormat
) -> AsyncIterator[Running]:
    """A server with so many workers for as long as the context lasts.

    Raises:
        ConfigError: it can't start as it is configured or called.
        FailedError: it ended without everything being durable, or a worker would not start.
    """
    check(config, workers)
    try:
        warn_of_others(config, worker_folders(config, workers))
        await asyncio.to_thread(_make_tables, config)
    except (IngestError, StorageError) as error:
        raise ConfigError(str(error)) from error
    with closing(ReservedPorts()) as ports:
        plan = await ports.take(config.ingest, workers)
        crew = Crew(config, options, plan, log_format)
        source = Source(crew.feed, crew.registry, crew.readiness, lambda: crew.claims.shown, crew.refresh)
        try:
            await crew.start()
            async with run_pages(config, source, options.mes_token) as url:
                yield Running(config.ingest.host, plan.port, plan.ack_port, url, crew.take_over)
                _log.info("stopping")
                await crew.stop()
        except OSError as error:
            raise ConfigError(str(error)) from error
        finally:
            durable = await crew.stop()
            _log.info("stopped", durable=durable)
    if not durable:
        raise FailedError("not everything that arrived is durable; nothing of that was acknowledged")


def _make_tables(config: Config) -> None:
    """Once for all workers: several at once would be in each other's way.

    Where the database is away the workers decide whether they need it.
    """
    try:
        open_writer(config.storage).close()
    except StorageError as error:
        if not error.retriable:
            raise
