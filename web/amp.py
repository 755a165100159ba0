"""The HTTP application of the supplier AMP: its customers' programs order here, over its service in `mes`.

Every route but `/healthz` needs the token. An order is repeated safely: the request's `Idempotency-Key`
says that it is the same.
"""

from http import HTTPStatus
from typing import Annotated, Final, TypeAlias

import structlog
from litestar import Litestar, Response, Router, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import PathParameter, QueryParameter, SkipValidation

from mes.amp.errors import AmpError, KeyReusedError, NoSuchOrderError, RefusedError
from mes.amp.orders import OrderRequest
from mes.amp.service import AmpService
from mes.amp.states import State
from web.amp_access import require_token
from web.amp_bodies import (
    MAX_BODY_BYTES,
    Orders,
    OrderView,
    QueuePage,
    StateBody,
    read_key,
    view_entry,
    view_order,
)
from web.bodies import read_body, whole_bodies
from web.health import Liveness
from web.problems import AnyRequest, ParameterError, ProblemError, answer_problem
from web.tracing import traced

MAX_ORDERS: Final = 200
"""Orders in one answer."""

_MAX_DIGITS: Final = 18
"""Of an order's number."""

_log = structlog.get_logger(__name__)

Service: TypeAlias = NamedDependency[SkipValidation[AmpService]]
OrderId: TypeAlias = Annotated[str, PathParameter(description="The order's number")]
IdsQuery: TypeAlias = Annotated[str, QueryParameter(description="Numbers of orders, with commas between")]
StateQuery: TypeAlias = Annotated[
    str | None, QueryParameter(name="state", description="In this state only")  # `state` itself is Litestar's
]
AfterQuery: TypeAlias = Annotated[
    int, QueryParameter(ge=0, lt=10**_MAX_DIGITS, description="Above this number only")
]
LimitQuery: TypeAlias = Annotated[
    int, QueryParameter(ge=1, le=MAX_ORDERS, description="Orders in the answer at most")
]


@post("/orders")
async def place_order(request: AnyRequest, service: Service) -> Response[OrderView]:
    """201 with the new order; 200 with the one that the same request has brought before."""
    key = read_key(request)
    order, is_new = await service.place(key, await read_body(request, OrderRequest))
    if not is_new:
        return Response(view_order(order), status_code=HTTPStatus.OK)
    location = {"Location": f"/api/v1/orders/{order.order_id}"}
    return Response(view_order(order), status_code=HTTPStatus.CREATED, headers=location)


@get("/orders")
async def list_orders(service: Service, ids: IdsQuery = "") -> Orders:
    """Those of these numbers that there are."""
    numbers = ids.split(",")
    if len(numbers) > MAX_ORDERS:
        raise ParameterError("ids", f"must be {MAX_ORDERS} at most", HTTPStatus.UNPROCESSABLE_ENTITY)
    if not all(map(_is_number, numbers)):
        raise ParameterError("ids", "must be numbers with commas between")
    return Orders([view_order(order) for order in await service.orders(list(map(int, numbers)))])


@get("/orders/{order_id:str}")
async def get_order(order_id: OrderId, service: Service) -> OrderView:
    """One order, as it is now."""
    return view_order(await service.order(_read_id(order_id)))


@post("/orders/{order_id:str}/cancel", status_code=HTTPStatus.OK)
async def cancel_order(order_id: OrderId, service: Service) -> OrderView:
    """409 once production has begun."""
    return view_order(await service.cancel(_read_id(order_id)))


@post("/orders/{order_id:str}/state", status_code=HTTPStatus.OK)
async def set_state(request: AnyRequest, order_id: OrderId, service: Service) -> OrderView:
    """409 where the order can't get from its state into that one."""
    state = _read_state((await read_body(request, StateBody)).state)
    return view_order(await service.set_state(_read_id(order_id), state))


@get("/queue")
async def list_queue(
    service: Service, in_state: StateQuery = None, after: AfterQuery = 0, limit: LimitQuery = 100
) -> QueuePage:
    """Open orders in the order of production, or those in one state."""
    state = None if in_state is None else _read_state(in_state)
    orders = await service.queue(state=state, after=after, limit=limit + 1)
    page = [view_entry(order) for order in orders[:limit]]
    return QueuePage(page, page[-1].order_id if len(orders) > limit else None)


@get("/healthz")
async def healthz() -> Liveness:
    """Whether the process lives."""
    return Liveness()


def create_amp_app(service: AmpService, token: str) -> Litestar:
    """The application over the service; `token` is what callers show, in ASCII."""
    api = Router(
        "/api/v1",
        route_handlers=[place_order, list_orders, get_order, cancel_order, set_state, list_queue],
        middleware=[require_token(token)],
    )
    return Litestar(
        route_handlers=[api, healthz],
        dependencies={"service": Provide(lambda: service, sync_to_thread=False)},
        middleware=[traced(), whole_bodies],
        exception_handlers={Exception: _answer_error},
        response_headers={"Cache-Control": "no-store"},
        openapi_config=None,
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,
    )


def _answer_error(request: AnyRequest, error: Exception) -> Response[bytes]:
    if isinstance(error, AmpError):  # the service has logged it
        return answer_problem(request, _as_problem(error))
    if isinstance(error, ProblemError):
        _log.warning("request_refused", status=error.problem.status, parameter=error.problem.parameter)
    return answer_problem(request, error)


def _as_problem(error: AmpError) -> ProblemError:
    """Whose fault it is in HTTP's words."""
    match error:
        case RefusedError(field=field, reason=reason):
            return ParameterError(field, reason, HTTPStatus.UNPROCESSABLE_ENTITY)
        case KeyReusedError():
            return ParameterError("Idempotency-Key", str(error), HTTPStatus.UNPROCESSABLE_ENTITY)
        case NoSuchOrderError():
            return ProblemError(HTTPStatus.NOT_FOUND, str(error), "order_id")
        case _:
            return ProblemError(HTTPStatus.CONFLICT, str(error))


def _read_id(text: str) -> int:
    if not _is_number(text):
        raise NoSuchOrderError
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS


def _read_state(text: str) -> State:
    if text not in list(State):
        known = ", ".join(State)
        raise ParameterError("state", f"must be one of: {known}", HTTPStatus.UNPROCESSABLE_ENTITY)
    return State(text)
