"""All workers of a server together: what probes, pages and signals have to do with.

The server is ready while at least one worker takes data and none of those that listen takes nothing: the
kernel deals connections out among those that listen. One that is being started again doesn't listen, so
machines don't come to it; it is named among the reasons, and the server stays ready without it. One that
doesn't answer still listens: until it does, or is ended, the server isn't ready.
"""

import asyncio
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry

from headrace.config import Config
from headrace.logs import LogFormat, set_level
from headrace.starting import StartOptions
from headrace.workers.figures import WorkerFigures, WorkerMetrics
from headrace.workers.messages import WorkerTask, encode
from headrace.workers.plan import Plan
from headrace.workers.worker import Worker, WorkerState
from ingest.claims import Claims
from ingest.live import LivePublisher
from ingest.tls import Certificates
from ingest.vital import Vital
from storage.live import LiveFeed
from web.health import Readiness, SinkReport

_ANSWER_S: Final = 2.0
_ASK_EVERY_S: Final = 1.0


class Crew:
    """The workers of one server."""

    def __init__(self, config: Config, options: StartOptions, plan: Plan, log_format: LogFormat) -> None:
        self.registry = CollectorRegistry()
        self.feed = LiveFeed(self._watch)
        self.claims = Claims(self.registry)
        figures, metrics = WorkerFigures(), WorkerMetrics(self.registry)
        self._vital = Vital(metrics.tasks_failed)
        self.registry.register(figures)
        self._workers = [
            Worker(
                WorkerTask(
                    number=number,
                    config=config,
                    plan=plan,
                    adopt_node=options.adopt_node,
                    accept_clock=options.accept_clock,
                    log_format=log_format,
                    watched=False,
                ),
                LivePublisher(self.feed),
                self.claims,
                figures=figures,
                metrics=metrics,
                vital=self._vital,
            )
            for number in range(plan.workers)
        ]
        self._asking: asyncio.Task[None] | None = None
        self._looking_after: list[asyncio.Task[None]] = []
        self._durable: bool | None = None

    async def start(self) -> None:
        """Start all of them, and wait until all listen.

        Raises:
            ConfigError: one says why it can't start.
            FailedError: one ended without a word.
        """
        outcomes = await asyncio.gather(*(worker.start() for worker in self._workers), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
        await self.refresh()
        self._look_after_all()

    def _look_after_all(self) -> None:
        """Each by its own task: a mistake with one ends the watch over no other."""
        for worker in self._workers:
            asking = asyncio.create_task(_look_after(worker), name=f"asking worker {worker.number}")
            self._looking_after.append(asking)
            self._vital.watch(asking)

    async def stop(self) -> bool:
        """Let all end in order; whether all that arrived is durable. The second call only says it again."""
        for asking in self._looking_after:
            asking.cancel()
        if self._durable is None:
            self._durable = all(await asyncio.gather(*(worker.stop() for worker in self._workers)))
            for worker in self._workers:
                await worker.live.stop()
        return self._durable

    async def take_over(self, config: Config) -> None:
        """Let all go by another configuration, those too that are started later.

        Raises:
            CertificateError: certificates can't be used; nothing was changed.
            ConfigError: it is too large for the workers; likewise.
        """
        encode(config)  # else nobody could be told of it
        if config.ingest.tls_cert is not None:
            await asyncio.to_thread(Certificates, config.ingest)
        set_level(config.log.stderr_level)
        for worker in self._workers:
            worker.change(config)

    def _watch(self, watched: bool) -> None:  # noqa: FBT001  # the feed calls it so
        for worker in self._workers:
            worker.watch(watched)

    async def refresh(self) -> None:
        """Hear how all of them are; those who ask meanwhile get the same answer."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="answering a page")
        await asyncio.shield(self._asking)

    async def _ask(self) -> None:
        await asyncio.gather(*(worker.ask(_ANSWER_S) for worker in self._workers))

    def readiness(self) -> Readiness:
        """What `/readyz` says, as of the last refresh."""
        troubles = {worker.number: _troubles(worker) for worker in self._workers}
        serving = [worker for worker in self._workers if worker.state is WorkerState.SERVING]
        failed = self._vital.troubles
        ready = bool(serving) and not failed and not any(troubles[worker.number] for worker in serving)
        reasons = [f"worker {number}: {reason}" for number, found in troubles.items() for reason in found]
        reasons += failed
        return Readiness(ready, reasons, [sink for worker in self._workers for sink in _sinks(worker)])


async def _look_after(worker: Worker) -> None:
    while True:
        await worker.look_after(_ANSWER_S)
        await asyncio.sleep(_ASK_EVERY_S)


def _troubles(worker: Worker) -> list[str]:
    """Why machines can't deliver to it at the moment."""
    if worker.state is not WorkerState.SERVING or worker.statistics is None:
        return [str(worker.state)]
    return ["does not answer"] if worker.silent else worker.statistics.troubles


def _sinks(worker: Worker) -> Iterator[SinkReport]:
    """Its sinks, as they were when it was heard last; those of a worker that is gone are, too."""
    gone = worker.state in (WorkerState.RESTARTING, WorkerState.STARTING)
    for sink in worker.statistics.sinks if worker.statistics is not None else []:
        yield SinkReport(
            f"worker-{worker.number}/{sink.name}",
            str(worker.state) if gone else str(sink.state),
            sink.newest - sink.block,
            sink.trouble or None,
        )
