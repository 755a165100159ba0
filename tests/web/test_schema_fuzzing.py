"""What the API's description promises, tried on every route: with what it allows, and with what it doesn't.

Status, media type, headers and body of each answer have to be among those described. The endless streams are
left out: nobody would hear their end.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import aiohttp
import hypothesis
import pytest_asyncio
import requests
import schemathesis
from hypothesis import HealthCheck
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis import Case
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from orders.accounts.passwords import Passwords
from tests.orders.accounts.acting import CHEAP
from tests.orders.supplier_side import TOKEN as MES_TOKEN
from tests.orders.supplier_side import Mes
from tests.web.counter import Counter
from tests.web.desk import ORDER, ORDERS
from tests.web.shop import Shop, record

ENDLESS: Final = r"^/api/v1/(live|stream)$"
EXAMPLES: Final = 80
"""Of each way to ask each route."""

_CHECKS: Final = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
_NOBODYS_FAULT: Final = (503, 504)
_SETTINGS: Final = hypothesis.settings(
    max_examples=EXAMPLES, suppress_health_check=[*HealthCheck], database=None, report_multiple_bugs=False
)

Operation: TypeAlias = APIOperation[Any, Any, Any, Any]
AnyCase: TypeAlias = Case[Operation]


class Served(NamedTuple):
    """Where it is served, to whom, and what there is."""

    url: str
    headers: dict[str, str]
    description: dict[str, Any]
    order: str
    """The id of one."""


@pytest_asyncio.fixture
async def served(shop: Shop, tmp_path: Path) -> AsyncIterator[Served]:
    """With a machine, an order, the product's own MES and an administrator's token."""
    mes = Mes(tmp_path)
    shop.send(b"".join(record("E0001", 1.0 * n, 8000.0, 2.5, 3.7, 380.0) for n in range(1, 9)))
    async with mes.served():
        counter = Counter(mes_url=mes.url, mes_token=MES_TOKEN, passwords=Passwords(CHEAP))
        await counter.add_user("Administrator", "administrator")
        headers = {"Authorization": f"Bearer {await counter.token('Administrator')}"}
        async with shop.serve(counter=counter) as address, aiohttp.ClientSession(address.url) as session:
            async with session.get("/schema/openapi.json") as answer:
                description = await answer.json(content_type=None)
            async with session.post(ORDERS, json=ORDER, headers=headers) as answer:
                order = (await answer.json())["order"]["id"]
            yield Served(address.url, headers, description, order)
    await mes.store.close()


async def test_what_is_allowed_is_answered_as_described(served: Served) -> None:
    """Whatever fits the description; most of it leads nowhere."""
    seen = await asyncio.to_thread(_ask_all, served, _any)
    assert {200, 400, 404, 422} <= set().union(*seen.values())


async def test_what_is_not_allowed_is_refused_as_described(served: Served) -> None:
    """Whatever doesn't fit the description, where something can't."""
    seen = await asyncio.to_thread(_ask_all, served, _wrong)
    assert {"GET /api/v1/logs", "GET /api/v1/devices", f"GET {ORDERS}"} <= set(seen)
    assert 200 not in seen[f"POST {ORDERS}"] | seen[_LOGIN]


async def test_what_there_is_is_answered_as_described(served: Served) -> None:
    """A machine, an order and a body that there are, with any other parameters: every route has a success."""
    seen = await asyncio.to_thread(_ask_all, served, _real)
    assert not [route for route, statuses in seen.items() if not {200, 204} & statuses if route != _LOGIN]


async def test_the_description_knows_every_route(served: Served) -> None:
    """And for each the answers to who is not known, and to a store that is away."""
    routes = list(_operations(served))
    assert len(routes) == 19
    for route in routes:
        assert {"401", "503"} <= set(route.definition.raw["responses"])
        described = route.definition.raw["responses"].items()
        kinds = {kind for status, answer in described if status >= "4" for kind in answer["content"]}
        assert kinds == {"application/problem+json"} or route.path == "/readyz", route.label


_LOGIN: Final = "POST /api/v1/session"


def _operations(served: Served) -> Iterator[Operation]:
    config = SchemathesisConfig()
    config.projects.default.generation.update(with_security_parameters=False)
    schema = schemathesis.openapi.from_dict(served.description, config=config)
    for found in schema.exclude(path_regex=ENDLESS).get_all_operations():
        assert isinstance(found, Ok)
        yield found.ok()


def _any(_: Served, operation: Operation) -> SearchStrategy[AnyCase]:
    return operation.as_strategy(GenerationMode.POSITIVE)


def _wrong(_: Served, operation: Operation) -> SearchStrategy[AnyCase]:
    return operation.as_strategy(GenerationMode.NEGATIVE)


def _real(served: Served, operation: Operation) -> SearchStrategy[AnyCase]:
    names = {"device_id": "E0001", "order": served.order}
    path = {name: value for name, value in names.items() if f"{{{name}}}" in operation.path}
    given: dict[str, Any] = {"path_parameters": path} if path else {}
    if operation.label == f"POST {ORDERS}":
        given["body"] = ORDER
    return operation.as_strategy(GenerationMode.POSITIVE, **given)


def _ask_all(
    served: Served, making: Callable[[Served, Operation], SearchStrategy[AnyCase]]
) -> dict[str, set[int]]:
    """The statuses that each route answered with; routes that can't be asked in this way are left out."""
    seen = {}
    with requests.Session() as session:
        for operation in _operations(served):
            with suppress(Unsatisfiable):
                seen[operation.label] = _ask(served, session, making(served, operation))
    return seen


def _ask(served: Served, session: requests.Session, cases: SearchStrategy[AnyCase]) -> set[int]:
    statuses = set()

    @_SETTINGS
    @hypothesis.given(case=cases)
    def ask(case: AnyCase) -> None:
        answer = case.call(served.url, session, served.headers)
        assert answer.status_code < 500 or answer.status_code in _NOBODYS_FAULT
        case.validate_response(answer, checks=_CHECKS)
        statuses.add(answer.status_code)

    ask()
    return statuses
