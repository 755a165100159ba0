"""What the API's description says of answers that are no success: for all routes, in one place.

Which problems a route can answer with follows from what it is: every one can be asked with a token that is
none, what has parameters can be asked with wrong ones, what changes something brings a body and a proof of
where it comes from. A route names only what is its own.
"""

from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.plugins import ReceiveRoutePlugin
from litestar.routes import BaseRoute, HTTPRoute

from web.problems import PROBLEM_JSON, Problem

_ANY: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE)
_API: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_URI_TOO_LONG)
_READING: Final = (HTTPStatus.UNPROCESSABLE_ENTITY,)
_NAMED: Final = (HTTPStatus.NOT_FOUND,)
_CHANGING: Final = (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


class Documented(ReceiveRoutePlugin):
    """Adds to each route of the description the problems that any route like it can answer with."""

    def receive_route(self, route: BaseRoute) -> None:
        """Complete what the route's handlers say of their answers."""
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                own = {int(status): _as_sent(spec) for status, spec in (handler.responses or {}).items()}
                common = {int(status): _problem(status) for status in _common(route, handler)}
                handler.responses = {**common, **own}


def _common(route: HTTPRoute, handler: HTTPRouteHandler) -> Iterator[HTTPStatus]:
    yield from _ANY
    if not route.path.startswith("/api/"):
        return
    yield from _API
    if route.path_parameters:
        yield from _NAMED
    if handler.http_methods & {"GET", "HEAD"}:
        yield from _READING
    else:
        yield from _CHANGING


def _problem(status: HTTPStatus) -> ResponseSpec:
    return ResponseSpec(Problem, generate_examples=False, description=status.phrase, media_type=PROBLEM_JSON)


def _as_sent(spec: ResponseSpec) -> ResponseSpec:
    """A problem goes out as what it is."""
    kind = spec.data_container
    is_problem = isinstance(kind, type) and issubclass(kind, Problem)
    return replace(spec, media_type=PROBLEM_JSON, generate_examples=False) if is_problem else spec
