"""The order API: AmpFacadeAPI's routes, and what its errors are on the wire.

A customer sees their own orders; who may read all may ask for all. An order that is somebody else's is not
there (404), so nobody learns which orders there are.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated, Final, TypeAlias

import msgspec
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, JSONBody, PathParameter, QueryParameter, SkipValidation

from orders.book.base import OrderPlace
from orders.book.states import OrderState
from orders.errors import (
    InvalidOrderError,
    KeyReusedError,
    NoSuchOrderError,
    NotCancellableError,
    OrderError,
    OverloadedError,
    RefusedError,
    SupplierBrokenError,
    SupplierError,
)
from orders.facade import AmpFacade, Customer, Standing
from orders.permissions import Permission
from orders.request import OrderRequest
from orders.supplier import Queued
from storage.errors import StorageError
from web.bodies import read_body
from web.identity import caller, check_permission, needs
from web.paging import before_order, link_header, next_url, order_cursor
from web.parameters import CursorQuery
from web.problems import (
    PROBLEM_HANDLERS,
    AnyRequest,
    ParameterError,
    Problem,
    ProblemError,
)
from web.times import format_time

MAX_ORDERS: Final = 100
_MAX_KEY: Final = 64
_READERS: Final = (Permission.ORDERS_SUBMIT, Permission.ORDERS_READ_ALL)
_SENT: Final = "order sent to the supplier"

Facade: TypeAlias = NamedDependency[SkipValidation[AmpFacade]]
OrderId: TypeAlias = Annotated[str, PathParameter(description="As the answer to the order named it")]
KeyHeader: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="1 to 64 printable ASCII characters: the same key never makes two orders",
    ),
]
LimitQuery: TypeAlias = Annotated[
    int, QueryParameter(ge=1, le=MAX_ORDERS, description="Orders on a page at most")
]
AllQuery: TypeAlias = Annotated[bool, QueryParameter(description="Everybody's, where that is allowed")]
QueueLimitQuery: TypeAlias = Annotated[int, QueryParameter(ge=1, le=200, description="Entries at most")]


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """An order, and how it stands."""

    id: str
    user: str
    base: str
    amount: int
    drilling: str
    cleaning: str
    pressing: str
    inspection: str
    state: OrderState
    """What this gateway knows: `forwarding`, `sent`, `refused`, `failed` or `cancelled`."""

    detail: str
    """Why it was refused, or failed."""

    received_at: str
    order_id: int | None
    """The supplier's number."""

    product_id: int | None
    price: int | None
    supplier_state: str | None
    """How it stands with the supplier; None where that is not known just now."""

    place: int | None
    """In the supplier's queue, from 1."""


class Ordered(msgspec.Struct, frozen=True):
    """The answer to an order."""

    message: str
    order: OrderView


class OrdersPage(msgspec.Struct, frozen=True):
    """Orders, the newest first."""

    orders: list[OrderView]
    next: str | None


class QueueView(msgspec.Struct, frozen=True):
    """The supplier's queue, in order."""

    orders: list[Queued]


class OrderProblem(Problem, frozen=True, omit_defaults=True):
    """A problem, and what is known about the order."""

    order: str | None = None
    """Its id."""

    state: OrderState | None = None


@post(
    "/orders",
    status_code=HTTPStatus.OK,
    guards=needs(Permission.ORDERS_SUBMIT),
    summary="Order from the supplier",
    responses={status: ResponseSpec(OrderProblem) for status in (401, 403, 422, 502, 503, 504)},
)
async def submit_order(
    data: JSONBody[OrderRequest], request: AnyRequest, facade: Facade, idempotency_key: KeyHeader = None
) -> Ordered:
    """Validated, written down, forwarded; the supplier's answer is relayed.

    With the same `Idempotency-Key` again, the same order; without one each request is an order of its own.
    """
    key = _key(idempotency_key)
    principal = caller(request.scope)
    await read_body(request, OrderRequest)
    try:
        with _answered():
            standing = await facade.submit(Customer(principal.user_id, principal.name), data, key)
    except StorageError as error:
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, _MAY_BE_NOTED) from error
    return Ordered(_SENT, view_order(standing))


@get("/orders", guards=needs(*_READERS), summary="Orders, the newest first")
async def list_orders(
    request: AnyRequest,
    facade: Facade,
    all: AllQuery = False,  # noqa: A002, FBT002  # the parameter's name on the wire
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
) -> Response[OrdersPage]:
    """One's own; with `all` everybody's."""
    principal = caller(request.scope)
    if all:
        check_permission(request.scope, Permission.ORDERS_READ_ALL)
    user = None if all else principal.name
    found = await facade.orders(user, before_order(cursor), limit + 1)
    page = found[:limit]
    last = page[-1].order if len(found) > limit else None
    url = next_url(request, order_cursor(OrderPlace(last.received_at, last.id)) if last else None)
    return Response(OrdersPage([view_order(one) for one in page], url), headers=link_header(url))


@get(
    "/orders/{order:str}",
    guards=needs(*_READERS),
    summary="An order",
    responses={404: ResponseSpec(Problem)},
)
async def get_order(order: OrderId, request: AnyRequest, facade: Facade) -> OrderView:
    """How it stands."""
    with _answered():
        return view_order(await facade.standing(order, _whose(request)))


@post(
    "/orders/{order:str}/cancel",
    status_code=HTTPStatus.OK,
    guards=needs(Permission.ORDERS_SUBMIT),
    summary="Take an order back",
    responses={status: ResponseSpec(Problem) for status in (404, 409, 502, 503, 504)},
)
async def cancel_order(order: OrderId, request: AnyRequest, facade: Facade) -> OrderView:
    """While it waits in the queue."""
    with _answered():
        return view_order(await facade.cancel(order, _whose(request)))


@get("/queue", guards=needs(Permission.ORDERS_READ_ALL), summary="The supplier's production queue")
async def get_queue(facade: Facade, limit: QueueLimitQuery = 200) -> QueueView:
    """What waits and what is made, in order."""
    with _answered():
        return QueueView(await facade.queue(limit))


def view_order(standing: Standing) -> OrderView:
    """An order as it goes over the wire."""
    order, placed = standing
    return OrderView(
        id=order.id,
        user=order.user,
        **msgspec.structs.asdict(order.request),
        state=order.state,
        detail=order.detail,
        received_at=format_time(order.received_at),
        order_id=order.order_id,
        product_id=order.product_id,
        price=order.price,
        supplier_state=placed.state if placed else None,
        place=placed.place if placed else None,
    )


def orders_router() -> Router:
    """All of the above; it needs the dependency `facade`."""
    return Router(
        "/",
        route_handlers=[submit_order, list_orders, get_order, cancel_order, get_queue],
        exception_handlers=PROBLEM_HANDLERS,
        tags=["Orders"],
    )


def _key(given: str | None) -> str:
    if given is None:
        return secrets.token_hex(16)
    if not (1 <= len(given) <= _MAX_KEY and given.isascii() and given.isprintable()):
        raise ParameterError("Idempotency-Key", f"must be 1 to {_MAX_KEY} printable ASCII characters")
    return given


def _whose(request: AnyRequest) -> str | None:
    """Whose orders the caller may see: their own, or with the permission everybody's."""
    principal = caller(request.scope)
    return None if principal.may(Permission.ORDERS_READ_ALL) else principal.name


@contextmanager
def _answered() -> Iterator[None]:
    """Turn the gateway's errors into problems."""
    try:
        yield
    except OrderError as error:
        raise _to_problem(error) from error


def _to_problem(error: OrderError) -> ProblemError:
    """What the gateway's own errors are on the wire."""
    if isinstance(error, InvalidOrderError | RefusedError):
        return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), error.field)
    if isinstance(error, SupplierError):
        return _SupplierProblemError(error)
    return ProblemError(_STATUS[type(error)], str(error))


class _SupplierProblemError(ProblemError):
    """502 for an answer that makes no sense, 504 where nobody knows, 503 where it surely has not arrived."""

    def __init__(self, error: SupplierError) -> None:
        order = error.order
        known = _MAY_HAVE_ARRIVED if error.may_have_arrived else _NOT_ARRIVED
        super().__init__(_supplier_status(error), f"{error}; {known}" if order else str(error))
        if order is not None:
            plain = msgspec.structs.asdict(self.problem)
            self.problem = OrderProblem(**plain, order=order.id, state=order.state)


def _supplier_status(error: SupplierError) -> HTTPStatus:
    if isinstance(error, SupplierBrokenError):
        return HTTPStatus.BAD_GATEWAY
    return HTTPStatus.GATEWAY_TIMEOUT if error.may_have_arrived else HTTPStatus.SERVICE_UNAVAILABLE


_MAY_HAVE_ARRIVED: Final = (
    "it is not known yet whether the supplier has the order. It is sent again until that is known, and is one"
    " order; see it among yours"
)
_MAY_BE_NOTED: Final = (
    "the gateway's book can't be written at the moment, and it is not known whether it has the order; send it"
    " again with the same Idempotency-Key, and it is one order"
)
_NOT_ARRIVED: Final = "nothing was ordered; try again later"

_STATUS: Final[dict[type[OrderError], HTTPStatus]] = {
    KeyReusedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    NoSuchOrderError: HTTPStatus.NOT_FOUND,
    NotCancellableError: HTTPStatus.CONFLICT,
    OverloadedError: HTTPStatus.SERVICE_UNAVAILABLE,
}
