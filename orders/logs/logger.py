"""The logger of the gateway: structlog up to the row.

A call goes through structlog's processors like any other: the context of the task (`trace_id`, `user_id`) is
merged in, the line of the call is added, and the last processor makes a `LogRow` of it, with every text
bounded and visible. What belongs to the call travels in one value of its own, so that no name in it can take
the place of a column.
"""

import random
from collections.abc import Callable
from typing import Any, Final, Protocol
from uuid import UUID

import structlog
from structlog.processors import CallsiteParameter, CallsiteParameterAdder
from structlog.typing import EventDict, Processor

from orders.logs.base import Level, LogRow
from orders.logs.text import MESSAGE_CHARACTERS, NAME_CHARACTERS, infos, visible
from orders.logs.trace import TRACE_ID

_COMPONENT: Final = "source_component"
_FILE: Final = "source_file"
_USER: Final = "user_id"
_SAID: Final = "additional_info"
_LINE: Final = CallsiteParameter.LINENO.value

_MOST_COUNTED: Final = (1 << 12) - 1
_MS_MASK: Final = (1 << 48) - 1
_CHANCE: Final = random.Random()  # noqa: S311  # an id is no secret, and the system's own chance takes 40 µs


class Intake(Protocol):
    """Where rows go."""

    def put(self, row: LogRow) -> None:
        """Take one."""
        ...

    def miss(self) -> None:
        """Count one that could not be made."""
        ...


class ActivityLogger(structlog.BoundLoggerBase):
    """Says what happens; every call becomes a row. None of them waits, and none raises.

    `user_id` is whose doing it is: without it the `user_id` in the context, or nobody's. Everything else that
    is named goes to `additional_info`.
    """

    def info(self, message: str, /, *, user_id: str | None = None, **info: object) -> None:
        """Routine operations and outcomes."""
        self._say(Level.INFO, message, user_id, info)

    def warning(self, message: str, /, *, user_id: str | None = None, **info: object) -> None:
        """Something that should not have been tried, or did not work at first."""
        self._say(Level.WARN, message, user_id, info)

    def error(self, message: str, /, *, user_id: str | None = None, **info: object) -> None:
        """Affects performance or flow; goes to standard error as well."""
        self._say(Level.ERROR, message, user_id, info)

    def critical(self, message: str, /, *, user_id: str | None = None, **info: object) -> None:
        """May halt the application: FATAL; goes to standard error as well."""
        self._say(Level.FATAL, message, user_id, info)

    def _say(self, level: Level, message: str, user_id: str | None, info: dict[str, object]) -> None:
        said: dict[str, Any] = {_SAID: info} if user_id is None else {_SAID: info, _USER: user_id}
        try:
            (row,), _ = self._process_event(level.value, message, said)
            self._logger.put(row)
        except Exception:  # noqa: BLE001  # whoever acts must not fail because of its log
            self._logger.miss()


class Loggers:
    """Makes loggers whose rows go to one intake, in the order in which they were said."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._processors: list[Processor] = [
            structlog.contextvars.merge_contextvars,
            CallsiteParameterAdder({CallsiteParameter.LINENO}, additional_ignores=[__name__]),
            _RowMaker(now_ms),
        ]

    def make(self, intake: Intake, *, component: str, file: str) -> ActivityLogger:
        """A logger whose rows name this component and file."""
        return ActivityLogger(intake, self._processors, {_COMPONENT: component, _FILE: file})


class _RowMaker:
    """The last processor."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._ids = _Ids()

    def __call__(self, _intake: object, level: str, event: EventDict) -> tuple[tuple[LogRow], dict[str, Any]]:
        now = self._now_ms()
        said: dict[str, object] = event.pop(_SAID)
        row = LogRow(
            id=self._ids.next(now),
            timestamp=now,
            level=Level(level),
            message=visible(str(event.pop("event")), MESSAGE_CHARACTERS),
            user_id=_name(event.pop(_USER, "")),
            source_component=_name(event.pop(_COMPONENT)),
            source_file=_name(event.pop(_FILE)),
            source_line=event.pop(_LINE),
            additional_info=infos(_only(TRACE_ID, event), said, dict(event)),
        )
        return (row,), {}


class _Ids:
    """Version 7 of UUIDs (RFC 9562, 5.7), so that rows of one millisecond stay in their order."""

    def __init__(self) -> None:
        self._ms = -1
        self._count = 0

    def next(self, ms: int) -> UUID:
        """The milliseconds, how many there were in this one, and 62 bits of chance."""
        self._count = min(self._count + 1, _MOST_COUNTED) if ms == self._ms else 0
        self._ms = ms
        time = (ms & _MS_MASK) << 16 | 7 << 12 | self._count
        return UUID(int=time << 64 | 2 << 62 | _CHANCE.getrandbits(62))


def _name(value: object) -> str:
    return visible(str(value), NAME_CHARACTERS)


def _only(key: str, event: EventDict) -> dict[str, object]:
    """Apart from the others, so that it is there however many they are."""
    return {key: event[key]} if key in event else {}
