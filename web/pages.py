"""The pages of the telemetry: machines, one machine, connections.

A page comes as a frame and a few words; its values come through the API like everybody else's, so there
is one way to read them.
"""

from http import HTTPStatus

from litestar import Response, Router, get

from web.frame import render
from web.parameters import DeviceId, Store, read_device
from web.problems import AnyRequest, NoSuchDeviceError, to_problem


@get("/", summary="All machines")
async def show_machines() -> Response[str]:
    """Tiles with live values."""
    return render("machines.html", here="/")


@get("/machines/{device_id:str}", summary="One machine")
async def show_machine(device_id: DeviceId, store: Store) -> Response[str]:
    """Live values, the last hour, rejects."""
    device = read_device(device_id)
    if await store.latest(device) is None:
        raise NoSuchDeviceError
    return render("machine.html", here="/", device=device)


@get("/connections", summary="Connections of machines")
async def show_connections() -> Response[str]:
    """Counters and why they closed."""
    return render("connections.html", here="/connections")


def answer_page(request: AnyRequest, error: Exception) -> Response[str]:
    """Answer any error with a page that says what to do."""
    problem = to_problem(request, error)
    status = HTTPStatus(problem.status)
    return render("problem.html", here="", status=status, title=problem.title, hint=_HINTS.get(status, ""))


_HINTS = {
    HTTPStatus.NOT_FOUND: "There is no such page, or no machine of that name has sent a reading yet.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The tables can't be read just now. Please try again in a few seconds.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "Something is wrong with this server; its log says more.",
}


def pages_router() -> Router:
    """All of the above; it needs the dependency `store`."""
    return Router(
        "/",
        route_handlers=[show_machines, show_machine, show_connections],
        exception_handlers={Exception: answer_page},
        include_in_schema=False,
    )
