"""The parameters that requests share: their types, their bounds, and how they are read."""

from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import Annotated, Final, NamedTuple, TypeAlias

from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter, SkipValidation

from parser.reference import read_device_id
from storage.base import ReadingStore
from storage.clock import now_ms
from web.guard import path_name
from web.paging import MAX_READINGS, MAX_ROWS
from web.problems import NoSuchDeviceError, ParameterError
from web.times import parse_time

FOREVER: Final = 1 << 62
"""Later than any reading, in milliseconds since 1970 UTC."""

MAX_STEPS: Final = 2_000

Store: TypeAlias = NamedDependency[SkipValidation[ReadingStore]]

ClaimedTwice: TypeAlias = Callable[[], Collection[str]]
"""Gives the devices that two connections have sent for lately."""

Claimed: TypeAlias = NamedDependency[SkipValidation[ClaimedTwice]]

DeviceId: TypeAlias = Annotated[str, PathParameter(description="The machine's name, such as E0001")]
DeviceQuery: TypeAlias = Annotated[str | None, QueryParameter(description="Of this machine only")]
ConnectionQuery: TypeAlias = Annotated[
    str | None, QueryParameter(description="Of this connection only, by its number")
]
StartQuery: TypeAlias = Annotated[
    str | None, QueryParameter(description="From this time on: RFC 3339, or milliseconds since 1970 UTC")
]
EndQuery: TypeAlias = Annotated[
    str | None, QueryParameter(description="Before this time: RFC 3339, or milliseconds since 1970 UTC")
]
CursorQuery: TypeAlias = Annotated[
    str | None, QueryParameter(description="The next page, as the page before named it")
]
RowsLimitQuery: TypeAlias = Annotated[
    int, QueryParameter(ge=1, le=MAX_ROWS, description="Rows on a page at most")
]
ReadingsLimitQuery: TypeAlias = Annotated[
    int, QueryParameter(ge=1, le=MAX_READINGS, description="Readings on a page at most")
]
StepsQuery: TypeAlias = Annotated[int, QueryParameter(ge=1, le=MAX_STEPS, description="Steps of the trend")]


class Span(NamedTuple):
    """start <= t < end, in milliseconds since 1970 UTC."""

    start: int
    end: int


class Ago(NamedTuple):
    """A range that ends now."""

    ms: int


def read_device(segment: str) -> str:
    """A machine's name out of a path.

    Raises:
        NoSuchDeviceError: no machine can have such a name.
    """
    name = path_name(segment)
    if not name.isascii() or read_device_id(name.encode("ascii")) is None:
        raise NoSuchDeviceError
    return name


def read_number(parameter: str, text: str | None) -> int | None:
    """A number beyond those that a browser has, so it comes as text.

    Raises:
        ParameterError: it is no number.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise ParameterError(parameter, "must be a number")
    return int(text)


def read_range(start: str | None, end: str | None, *, default: Ago | None = None) -> Span:
    """A range of time; without `default`, what isn't given is open.

    Raises:
        ParameterError: a time can't be read, or the range ends before it begins.
    """
    last = _read_time("end", end)
    first = _read_time("start", start)
    if last is None:
        last = now_ms() + 1 if default else FOREVER
    if first is None:
        first = last - default.ms if default else -FOREVER
    if first >= last:
        raise ParameterError("start", "must be before end", HTTPStatus.UNPROCESSABLE_ENTITY)
    return Span(first, last)


def _read_time(parameter: str, text: str | None) -> int | None:
    try:
        return None if text is None else parse_time(text)
    except ValueError as error:
        raise ParameterError(parameter, str(error)) from error
