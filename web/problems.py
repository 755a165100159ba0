"""What a client gets when something is wrong: RFC 9457 problem documents, that name the parameter.

A bad request is the client's (4xx), a store that can't be reached is nobody's and passes (503), and
anything else is ours (500): it is logged with its traceback, and its text stays here.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final, TypeAlias

import msgspec
import structlog
from litestar import Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from orders.sparing import Sparing
from storage.clock import now_ms
from storage.errors import StorageError

PROBLEM_JSON: Final = "application/problem+json"

AnyRequest: TypeAlias = Request[object, object, State]

_log = structlog.get_logger(__name__)
_sparing: Final = Sparing()
"""Every request fails while the store is away, and anybody's program may ask again at once."""

_failures: Final = Sparing()
"""A mistake of ours that a request hits is hit again by the next one like it, with a traceback each."""


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An RFC 9457 problem document."""

    title: str
    status: int
    detail: str = ""
    parameter: str | None = None
    """Which parameter of the request was wrong, where it was one."""


class ProblemError(Exception):
    """A request that can't be answered, and what to answer instead."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        parameter: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(status.phrase, status, detail, parameter)
        self.headers = dict(headers or {})


class ParameterError(ProblemError):
    """A parameter of the request can't be read (400), or can't be meant (422)."""

    def __init__(self, parameter: str, detail: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(status, f"{parameter}: {detail}", parameter)


class NoSuchDeviceError(ProblemError):
    """No reading of such a device is stored."""

    def __init__(self) -> None:
        super().__init__(HTTPStatus.NOT_FOUND, "device_id: it never sent a reading", "device_id")


class NotAcceptableError(ProblemError):
    """The client accepts none of the media types that there are."""

    def __init__(self, offered: Sequence[str]) -> None:
        super().__init__(
            HTTPStatus.NOT_ACCEPTABLE, f"Accept: one of these is needed: {', '.join(offered)}", "Accept"
        )


class TooManyError(ProblemError):
    """As many requests of this kind as there may be are being answered."""

    def __init__(self) -> None:
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests of this kind at once; try again")


def status_of(error: Exception) -> HTTPStatus:
    """The status that answers an error."""
    if isinstance(error, ProblemError):
        return HTTPStatus(error.problem.status)
    if isinstance(error, HTTPException):
        return HTTPStatus(error.status_code)
    is_away = isinstance(error, StorageError)
    return HTTPStatus.SERVICE_UNAVAILABLE if is_away else HTTPStatus.INTERNAL_SERVER_ERROR


def to_problem(request: AnyRequest, error: Exception) -> Problem:
    """The problem document for any error."""
    if isinstance(error, ProblemError):
        return error.problem
    if isinstance(error, ValidationException):
        return _invalid(error)
    if isinstance(error, HTTPException) and error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return Problem(HTTPStatus(error.status_code).phrase, error.status_code)
    if isinstance(error, StorageError):
        if _sparing.lets(now_ms()):
            times = 1 + _sparing.left_out()
            _log.warning("store_unavailable", error=str(error), path=request.scope["path"], times=times)
        status = HTTPStatus.SERVICE_UNAVAILABLE
        return Problem(status.phrase, status, "the store can't be read at the moment")
    if _failures.lets(now_ms()):
        times = 1 + _failures.left_out()
        _log.error("request_failed", path=request.scope["path"], times=times, exc_info=error)
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    return Problem(status.phrase, status, "the server's log says more")


def _invalid(error: ValidationException) -> Problem:
    """What the framework found wrong with the parameters; the first is enough to go on."""
    status = HTTPStatus.BAD_REQUEST
    first = next((entry for entry in error.extra or [] if isinstance(entry, dict)), {})
    parameter = str(first.get("key", ""))
    if not parameter:
        return Problem(status.phrase, status, "a parameter is missing or can't be read")
    return Problem(status.phrase, status, f"{parameter}: {first.get('message', '')}", parameter)


def answer_problem(request: AnyRequest, error: Exception) -> Response[bytes]:
    """Answer any error with its problem document."""
    problem = to_problem(request, error)
    headers = dict(error.headers or {}) if isinstance(error, HTTPException | ProblemError) else {}
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("Retry-After", "2")
    return Response(
        msgspec.json.encode(problem), status_code=problem.status, media_type=PROBLEM_JSON, headers=headers
    )


PROBLEM_HANDLERS: Final[ExceptionHandlersMap] = {Exception: answer_problem}
"""For a router whose clients are programs."""
