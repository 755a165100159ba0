"""The log API: what happened at the gateway, for administrators."""

from typing import Annotated, Final, TypeAlias

import msgspec
from litestar import Response, Router, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter, SkipValidation

from orders.logs.base import Level, LogQuery, LogRow, LogStore
from orders.permissions import Permission
from web.identity import needs
from web.paging import before_log, link_header, log_cursor, next_url
from web.parameters import CursorQuery, EndQuery, StartQuery, read_range
from web.problems import PROBLEM_HANDLERS, AnyRequest, Problem
from web.times import format_time

MAX_LOG_ROWS: Final = 500
_MAX_WORDS: Final = 100

Logs: TypeAlias = NamedDependency[SkipValidation[LogStore]]
LevelQuery: TypeAlias = Annotated[Level | None, QueryParameter(description="Of this level only")]
UserQuery: TypeAlias = Annotated[
    str | None, QueryParameter(max_length=_MAX_WORDS, description="Of this user only")
]
ComponentQuery: TypeAlias = Annotated[
    str | None, QueryParameter(max_length=_MAX_WORDS, description="Of this component only")
]
TextQuery: TypeAlias = Annotated[
    str | None,
    QueryParameter(max_length=_MAX_WORDS, description="Somewhere in the message or what belongs to it"),
]
LimitQuery: TypeAlias = Annotated[
    int, QueryParameter(ge=1, le=MAX_LOG_ROWS, description="Rows on a page at most")
]


class LogView(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the log."""

    id: str
    timestamp: str
    user_id: str
    additional_info: dict[str, str]
    level: Level
    message: str
    source_component: str
    source_file: str
    source_line: int


class LogsPage(msgspec.Struct, frozen=True):
    """Rows, the newest first."""

    logs: list[LogView]
    next: str | None
    """A page that was searched for may be short, or empty, and yet go on."""


@get(
    "/logs",
    guards=needs(Permission.LOGS_READ),
    summary="The log, the newest first",
    responses={status: ResponseSpec(Problem) for status in (401, 403)},
)
async def list_logs(  # noqa: PLR0917  # the query's parameters, by name
    request: AnyRequest,
    logs: Logs,
    level: LevelQuery = None,
    user: UserQuery = None,
    component: ComponentQuery = None,
    text: TextQuery = None,
    start: StartQuery = None,
    end: EndQuery = None,
    limit: LimitQuery = 100,
    cursor: CursorQuery = None,
) -> Response[LogsPage]:
    """Narrowed by whatever is given."""
    span = read_range(start, end)
    query = LogQuery(
        start=span.start,
        end=span.end,
        level=level,
        user_id=user,
        component=component,
        text=text,
        before=before_log(cursor),
    )
    page = await logs.query(query, limit)
    url = next_url(request, log_cursor(page.next) if page.next else None)
    return Response(LogsPage([view_log(row) for row in page.rows], url), headers=link_header(url))


def view_log(row: LogRow) -> LogView:
    """A row as it goes over the wire."""
    return LogView(
        id=str(row.id),
        timestamp=format_time(row.timestamp),
        user_id=row.user_id,
        additional_info=row.additional_info,
        level=row.level,
        message=row.message,
        source_component=row.source_component,
        source_file=row.source_file,
        source_line=row.source_line,
    )


def logs_router() -> Router:
    """The above; it needs the dependency `logs`."""
    return Router("/", route_handlers=[list_logs], exception_handlers=PROBLEM_HANDLERS, tags=["Log"])
