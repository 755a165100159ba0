"""The frame that all pages share: head, navigation, the place for what is the page's own.

A page is a template in `templates/` that extends `frame.html`, a module in `static/`, and an entry in
`PLACES` if it belongs into the navigation. There is no build step: what lies in `static/` is what
browsers get. Its path holds a digest of all of it, so they may keep it for ever and never have an old one.
Each file has a route of its own and is held in memory: so no path of a stranger's is looked for on the disk,
and many who are slow to take a file share its bytes.
"""

import hashlib
import mimetypes
from http import HTTPStatus
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

import jinja2
from litestar import HttpMethod, Response, Router, route
from litestar.handlers import BaseRouteHandler

from orders.accounts.principal import Principal
from orders.permissions import Permission
from web.bodies import answer_bytes

_HERE: Final = Path(__file__).parent
_STATIC: Final = _HERE / "static"


class Place(NamedTuple):
    """An entry of the navigation."""

    path: str
    title: str
    permissions: tuple[Permission, ...]
    """Who has one of them sees the entry."""

    def is_open_to(self, principal: Principal) -> bool:
        """Whether they see it."""
        return any(map(principal.may, self.permissions))


PLACES: Final = (
    Place("/", "Machines", (Permission.TELEMETRY_READ,)),
    Place("/connections", "Connections", (Permission.TELEMETRY_READ,)),
    Place("/order", "Order", (Permission.ORDERS_SUBMIT,)),
    Place("/orders", "Orders", (Permission.ORDERS_SUBMIT, Permission.ORDERS_READ_ALL)),
    Place("/queue", "Queue", (Permission.ORDERS_READ_ALL,)),
    Place("/logs", "Log", (Permission.LOGS_READ,)),
)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def _charts_folder() -> Path:
    """Where the installed chart library keeps its script; it isn't imported for that."""
    spec = find_spec("bokeh")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("bokeh is not installed")
    return Path(spec.origin).parent / "server" / "static" / "js"


_STATIC_PATH: Final = f"/static/{_digest(_STATIC)}"
_CHARTS_PATH: Final = f"/static/charts/{version('bokeh')}"

_CHARTS: Final = ("bokeh.min.js", "bokeh-api.min.js")
_KEPT: Final = {"Cache-Control": "public, max-age=31536000, immutable"}

_templates: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals |= {"static": _STATIC_PATH, "charts": _CHARTS_PATH}
_templates.filters["segment"] = lambda name: quote(name, safe="")


def render(
    template: str,
    *,
    here: str,
    principal: Principal | None,
    status: HTTPStatus = HTTPStatus.OK,
    **values: object,
) -> Response[str]:
    """A page for who asks; `here` is the path of the navigation's entry that it belongs to."""
    places = [place for place in PLACES if principal is not None and place.is_open_to(principal)]
    text = _templates.get_template(template).render(here=here, places=places, principal=principal, **values)
    headers = {"Cache-Control": "no-store"}
    return Response(text, status_code=status, media_type="text/html", headers=headers)


def static_router() -> Router:
    """Our own files, and the chart library's scripts out of its installed package."""
    files = {f"{_STATIC_PATH}/{file.name}": file for file in _STATIC.iterdir()}
    files |= {f"{_CHARTS_PATH}/{name}": _charts_folder() / name for name in _CHARTS}
    return Router("/", route_handlers=[_served(path, file) for path, file in files.items()])


def _served(path: str, file: Path) -> BaseRouteHandler:
    body = file.read_bytes()
    kind, _ = mimetypes.guess_type(file.name)

    @route(path, http_method=[HttpMethod.GET, HttpMethod.HEAD], include_in_schema=False)
    async def answer() -> Response[bytes]:
        return answer_bytes(body, f"{kind}; charset=utf-8", _KEPT)

    return answer
