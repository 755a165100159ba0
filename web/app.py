"""The HTTP application: who answers what. It composes and decides nothing."""

from collections.abc import Awaitable, Callable
from typing import Final

import prometheus_client
from litestar import Litestar, Response, Router
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from storage.base import ReadingStore
from storage.live import LiveFeed
from web.board import Board
from web.bodies import ForgivingRequest, whole_bodies
from web.contract import Documented
from web.crowd import Crowd
from web.events import events_router
from web.frame import static_router
from web.health import Readiness, at_hand, health_router
from web.identity import Identity
from web.logs import logs_router
from web.office import Office, Refusals
from web.orders import orders_router
from web.pages import answer_page, pages_router
from web.parameters import ClaimedTwice
from web.problems import PROBLEM_HANDLERS, PROBLEM_JSON, AnyRequest, answer_problem
from web.session import CookieMaker, session_router
from web.telemetry import telemetry_router
from web.tracing import traced

MAX_BODY_BYTES: Final = 64 * 1024


def create_app(
    *,
    store: ReadingStore,
    feed: LiveFeed,
    registry: prometheus_client.CollectorRegistry,
    readiness: Callable[[], Readiness],
    office: Office,
    session_cookie: CookieMaker,
    refresh: Callable[[], Awaitable[None]] = at_hand,
    claimed_twice: ClaimedTwice = frozenset,
) -> Litestar:
    """The application over a store, a live feed and the order gateway's parts.

    `claimed_twice` gives the devices that two connections have sent for lately.
    """
    api = Router(
        "/api/v1",
        route_handlers=[
            telemetry_router(),
            events_router(),
            session_router(),
            orders_router(),
            logs_router(),
        ],
        exception_handlers=PROBLEM_HANDLERS,
        response_headers={"Cache-Control": "no-store"},
    )
    refusals = Refusals(office.log)
    return Litestar(
        route_handlers=[
            api,
            health_router(registry, readiness, refresh),
            pages_router(),
            static_router(),
        ],
        dependencies=_given(
            store=store,
            board=Board(feed, claimed_twice),
            feed=feed,
            security=office.security,
            facade=office.facade,
            logs=office.logs,
            session_cookie=session_cookie,
            claimed_twice=claimed_twice,
        ),
        middleware=[
            traced(),
            Crowd(office.facade, refusals).kept_off(),
            whole_bodies,
            Identity(office.security, session_cookie.name).known(),
        ],
        plugins=[Documented()],
        after_exception=[refusals.note],
        request_class=ForgivingRequest,
        openapi_config=_description(session_cookie.name),
        request_max_body_size=MAX_BODY_BYTES,
        exception_handlers={Exception: _answer_error},
        logging_config=None,
    )


def _description(cookie: str) -> OpenAPIConfig:
    """What the API says of itself."""
    return OpenAPIConfig(
        title="Headrace",
        version="1",
        description="Telemetry of shop-floor machines, and orders from the supplier.",
        components=Components(
            security_schemes={
                "token": SecurityScheme(type="http", scheme="bearer"),
                "session": SecurityScheme(type="apiKey", name=cookie, security_scheme_in="cookie"),
            }
        ),
        security=[{"token": []}, {"session": []}],
        render_plugins=[JsonRenderPlugin()],  # the usual pages would load scripts from other hosts
    )


def _given(**parts: object) -> dict[str, Provide]:
    """What routes can ask for by name."""
    return {name: Provide(_always(part), sync_to_thread=False) for name, part in parts.items()}


def _always(part: object) -> Callable[[], object]:
    return lambda: part


def _answer_error(request: AnyRequest, error: Exception) -> Response[bytes] | Response[str]:
    """Where no route answers, people get a page and programs a problem document."""
    if request.scope["path"].startswith("/api/"):
        return answer_problem(request, error)
    wants_page = request.accept.best_match([PROBLEM_JSON, "text/html"]) == "text/html"
    return answer_page(request, error) if wants_page else answer_problem(request, error)
