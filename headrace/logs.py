"""Logging: structlog to standard error, as JSON lines or, for people, as coloured text.

The level may change while the process runs, and loggers are made once and kept: so it is asked at each line.
A line that can't be written (the terminal is gone, a disk is full) is lost, and nobody fails because of it.
"""

import logging
import sys
from contextlib import suppress
from typing import Final, Literal

import structlog
from structlog.typing import EventDict, Processor

from orders.settings import StderrLevel

LogFormat = Literal["auto", "json", "console"]

_NUMBERS: Final = logging.getLevelNamesMapping()


class _Threshold:
    """The first processor: nothing below the level goes further."""

    def __init__(self) -> None:
        self.number = logging.INFO

    def __call__(self, _logger: object, level: str, event: EventDict) -> EventDict:
        if _NUMBERS.get(level.upper(), logging.CRITICAL) < self.number:
            raise structlog.DropEvent
        return event


class _Lines:
    """What structlog hands finished lines to, one method for each level."""

    def say(self, line: str) -> None:
        """Write a line, whole."""
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    info = warning = error = critical = say


_threshold: Final = _Threshold()


def configure_logs(how: LogFormat = "auto") -> None:
    """Set up logging; `auto` is text on a terminal and JSON elsewhere."""
    text = how == "console" or (how == "auto" and sys.stderr.isatty())
    renderer: Processor = structlog.dev.ConsoleRenderer() if text else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            _threshold,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: _Lines(),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")


def set_level(level: StderrLevel) -> None:
    """Say from now on what is of this level or above; of what libraries say, never more than warnings."""
    _threshold.number = _NUMBERS[level.upper()]
    logging.getLogger().setLevel(max(_threshold.number, logging.WARNING))
