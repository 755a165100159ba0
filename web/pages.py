"""The pages: machines, connections, ordering, the supplier's queue, the log, and the way in.

A page comes as a frame and a few words; its values come through the API like everybody else's, so there
is one way to read them. Who is not logged in is sent to the way in, and from there back.
"""

from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from litestar import Response, Router, get

from orders.permissions import Permission
from orders.request import OPTIONS
from web.frame import PLACES, render
from web.identity import NotAuthenticatedError, caller, check_permission, needs
from web.parameters import DeviceId, Store, read_device
from web.problems import AnyRequest, NoSuchDeviceError, to_problem

_LABELS: Final = {
    "base": "Base",
    "drilling": "Drilling",
    "cleaning": "Cleaning",
    "pressing": "Pressing",
    "inspection": "Inspection",
}


@get("/", summary="All machines")
async def show_machines(request: AnyRequest) -> Response[str]:
    """Tiles with live values; who may not see them is sent to the first page that they may see."""
    principal = caller(request.scope)
    theirs = [place.path for place in PLACES if place.is_open_to(principal)]
    if theirs and theirs[0] != "/":
        return _see(theirs[0])
    check_permission(request.scope, Permission.TELEMETRY_READ)
    return render("machines.html", here="/", principal=principal)


@get("/machines/{device_id:str}", guards=needs(Permission.TELEMETRY_READ), summary="One machine")
async def show_machine(device_id: DeviceId, store: Store, request: AnyRequest) -> Response[str]:
    """Live values, the last hour, rejects."""
    device = read_device(device_id)
    if await store.latest(device) is None:
        raise NoSuchDeviceError
    return render("machine.html", here="/", principal=caller(request.scope), device=device)


@get("/connections", guards=needs(Permission.TELEMETRY_READ), summary="Connections of machines")
async def show_connections(request: AnyRequest) -> Response[str]:
    """Counters and why they closed."""
    return render("connections.html", here="/connections", principal=caller(request.scope))


@get("/login", summary="The way in")
async def show_login(request: AnyRequest) -> Response[str]:
    """Name and password."""
    return render("login.html", here="/login", principal=request.scope.get("user"))


@get("/order", summary="Order Request Generator")
async def show_order(request: AnyRequest) -> Response[str]:
    """The form, also for those who may not send it: they are told so."""
    principal = caller(request.scope)
    return render("order.html", here="/order", principal=principal, options=OPTIONS, labels=_LABELS)


@get("/orders", guards=needs(Permission.ORDERS_SUBMIT, Permission.ORDERS_READ_ALL), summary="Orders")
async def show_orders(request: AnyRequest) -> Response[str]:
    """One's own, or everybody's."""
    return render("orders.html", here="/orders", principal=caller(request.scope))


@get("/queue", guards=needs(Permission.ORDERS_READ_ALL), summary="The supplier's production queue")
async def show_queue(request: AnyRequest) -> Response[str]:
    """What waits and what is made."""
    return render("queue.html", here="/queue", principal=caller(request.scope))


@get("/logs", guards=needs(Permission.LOGS_READ), summary="The log")
async def show_logs(request: AnyRequest) -> Response[str]:
    """Rows with their filters."""
    return render("logs.html", here="/logs", principal=caller(request.scope))


def answer_page(request: AnyRequest, error: Exception) -> Response[str]:
    """Answer any error with a page that says what to do."""
    if isinstance(error, NotAuthenticatedError):
        there = quote(request.scope["path"], safe="/")
        return _see(f"/login?next={there}")
    problem = to_problem(request, error)
    status = HTTPStatus(problem.status)
    hint = _HINTS.get(status, "")
    principal = request.scope.get("user")
    return render("problem.html", here="", principal=principal, status=status, title=problem.title, hint=hint)


def _see(path: str) -> Response[str]:
    """Go there instead."""
    return Response("", status_code=HTTPStatus.SEE_OTHER, headers={"Location": path}, media_type="text/plain")


_HINTS = {
    HTTPStatus.FORBIDDEN: "You may not see this page. Somebody who manages users can change that.",
    HTTPStatus.NOT_FOUND: "There is no such page, or no machine of that name has sent a reading yet.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The tables can't be read just now. Please try again in a few seconds.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "Something is wrong with this server; its log says more.",
}


def pages_router() -> Router:
    """All of the above; it needs the dependency `store`."""
    return Router(
        "/",
        route_handlers=[
            show_machines,
            show_machine,
            show_connections,
            show_login,
            show_order,
            show_orders,
            show_queue,
            show_logs,
        ],
        exception_handlers={Exception: answer_page},
        include_in_schema=False,
    )
