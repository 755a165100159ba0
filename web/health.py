"""Whether the process lives, whether it can take data, and its figures.

Each answers from memory: a probe that comes every second costs nothing that a machine would notice. Where
other processes know more, they are asked before.
"""

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

import msgspec
import prometheus_client
from litestar import Request, Response, Router, get
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec

from web.figures import FORMATS, PLAIN, Moments, figures
from web.problems import PROBLEM_HANDLERS


class SinkReport(msgspec.Struct, frozen=True):
    """How one sink is doing."""

    name: str
    state: str
    lag_blocks: int
    """Blocks that are in the journal and not in its tables."""

    reason: str | None = None
    """Why it waits, where it does."""


class Readiness(msgspec.Struct, frozen=True):
    """Whether the process can take data; a sink that waits doesn't make it unready."""

    ready: bool
    reasons: Sequence[str] = ()
    """Why not; or what is amiss although it can."""

    sinks: Sequence[SinkReport] = ()


class Liveness(msgspec.Struct, frozen=True):
    """The answer of a process that lives."""

    status: str = "alive"


async def at_hand() -> None:
    """Nobody else has to be asked."""


def health_router(
    registry: prometheus_client.CollectorRegistry,
    readiness: Callable[[], Readiness],
    refresh: Callable[[], Awaitable[None]] = at_hand,
) -> Router:
    """`/healthz`, `/readyz` and `/metrics`; `refresh` brings in what other processes know."""

    @get("/healthz", summary="Whether the process lives")
    async def healthz() -> Liveness:
        return Liveness()

    moments = Moments(refresh)

    @get("/readyz", summary="Whether the process can take data (503 if not), and how its sinks are")
    async def readyz() -> Response[Readiness]:
        await moments.next()
        report = readiness()
        status = HTTPStatus.OK if report.ready else HTTPStatus.SERVICE_UNAVAILABLE
        return Response(report, status_code=status)

    text = ResponseSpec(str, description="Prometheus text", media_type="text/plain", generate_examples=False)

    @get("/metrics", summary="Figures for Prometheus", responses={HTTPStatus.OK: text})
    async def metrics(request: Request[object, object, State]) -> Response[bytes]:
        kind = request.accept.best_match(list(FORMATS), default=PLAIN)
        return Response(await figures(registry, moments, kind), headers={"Content-Type": FORMATS[kind][0]})

    return Router(
        "/",
        route_handlers=[healthz, readyz, metrics],
        exception_handlers=PROBLEM_HANDLERS,
        tags=["Operations"],
        response_headers={"Cache-Control": "no-store"},
    )
