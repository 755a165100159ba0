"""Tasks that have to live as long as the server: one that fails is noticed at once.

asyncio keeps what a task failed with until somebody asks for it, and nobody asks one that is to run for ever:
then figures stand still, or a process is never started again. Here it becomes a line of the log, a count, and
a reason for not being ready; a restart of the server is what helps.
"""

import asyncio

import structlog
from prometheus_client import Counter

_log = structlog.get_logger("ingest")


class Vital:
    """The tasks of one server without which it isn't whole."""

    def __init__(self, failed: Counter) -> None:
        """`failed` counts them by their names."""
        self._failed = failed
        self.troubles: list[str] = []
        """Which have failed, in words; empty while all live."""

    def watch(self, task: asyncio.Task[None]) -> None:
        """Notice when it fails; that it is cancelled, or comes to its end, its owner has wanted."""
        self._failed.labels(task.get_name())
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        name = task.get_name()
        self._failed.labels(name).inc()
        self.troubles.append(f"the task '{name}' has failed ({type(error).__name__}); the log says how")
        _log.error("task_failed", task=name, reason=repr(error), exc_info=error)
