"""What probes and Prometheus are told, and the description of the API."""

import asyncio
from collections.abc import Iterator

import aiohttp
import prometheus_client
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from tests.web.shop import Shop
from web.figures import OPENMETRICS, PLAIN, Moments, figures
from web.health import Readiness, SinkReport, at_hand


async def test_readyz_says_why_not(shop: Shop, client: aiohttp.ClientSession) -> None:
    """503 with reasons when it can't take data; 200 with its sinks when it can, also if one waits."""
    sink = SinkReport("sqlite", "waiting", 7, "disk full")
    shop.readiness = Readiness(ready=True, sinks=[sink])
    async with client.get("/readyz") as answer:
        assert answer.status == 200
        (report,) = (await answer.json())["sinks"]
        assert report == {"name": "sqlite", "state": "waiting", "lag_blocks": 7, "reason": "disk full"}
    shop.readiness = Readiness(ready=False, reasons=["journal: disk full"])
    async with client.get("/readyz") as answer:
        assert answer.status == 503
        assert await answer.json() == {"ready": False, "reasons": ["journal: disk full"], "sinks": []}


async def test_metrics_are_those_of_the_registry(shop: Shop, client: aiohttp.ClientSession) -> None:
    """In Prometheus' text format, or OpenMetrics where that is asked for."""
    prometheus_client.Counter("headrace_test", "A test.", registry=shop.registry).inc(3)
    async with client.get("/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        assert "headrace_test_total 3.0" in await answer.text()
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with client.get("/metrics", headers=accept) as answer:
        assert answer.content_type == "application/openmetrics-text"
        assert (await answer.text()).endswith("# EOF\n")


@pytest.mark.parametrize(
    "accept", ["text/plain; version=x", "application/openmetrics-text; version=x", ";,=", ""]
)
async def test_whatever_is_accepted_the_figures_come(client: aiohttp.ClientSession, accept: str) -> None:
    async with client.get("/metrics", headers={"Accept": accept}) as answer:
        assert answer.status == 200
        assert answer.content_type == ("application/openmetrics-text" if "open" in accept else "text/plain")


async def test_figures_are_made_once_for_all_who_ask_at_a_time() -> None:
    """In each of the two formats; those of later are newer, and who goes costs the others nothing."""
    made: list[str] = []

    class Counting(CollectorRegistry):
        def collect(self) -> Iterator[Metric]:
            made.append("made")
            return iter(())

    registry, moments = Counting(), Moments(at_hand)
    asking = [asyncio.create_task(figures(registry, moments, kind)) for kind in [PLAIN, OPENMETRICS] * 50]
    await asyncio.sleep(0)
    asking[0].cancel()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert set(found[1:]) == {b"", b"# EOF\n"}
    assert len(made) == 2
    await figures(registry, moments, PLAIN)
    assert len(made) == 3


async def test_the_description_of_the_api_is_complete_and_names_no_other_host(
    client: aiohttp.ClientSession,
) -> None:
    """Each route with its summary and parameters, as JSON at /schema and /schema/openapi.json."""
    async with client.get("/schema/openapi.json") as answer:
        assert answer.status == 200
        schema = await answer.json(content_type=None)
        text = await answer.text()
    assert {
        "/api/v1/devices",
        "/api/v1/devices/{device_id}/latest",
        "/api/v1/devices/{device_id}/readings",
        "/api/v1/devices/{device_id}/trend",
        "/api/v1/rejects",
        "/api/v1/connections",
        "/api/v1/ledger",
        "/api/v1/live",
        "/api/v1/stream",
        "/api/v1/session",
        "/api/v1/orders",
        "/api/v1/orders/{order}",
        "/api/v1/orders/{order}/cancel",
        "/api/v1/queue",
        "/api/v1/logs",
        "/healthz",
        "/readyz",
        "/metrics",
    } <= set(schema["paths"])
    readings = schema["paths"]["/api/v1/devices/{device_id}/readings"]["get"]
    assert {entry["name"] for entry in readings["parameters"]} == {
        "device_id",
        "start",
        "end",
        "limit",
        "cursor",
    }
    assert all("summary" in way for path in schema["paths"].values() for way in path.values())
    assert "https://" not in text
    async with client.get("/schema") as answer:
        assert await answer.json(content_type=None) == schema
