"""Places for connections of pages: who comes when all are taken is closed, who is within is answered."""

import asyncio
from contextlib import AsyncExitStack
from typing import Final

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from tests.web.shop import Shop, until
from web.places import HttpMetrics, Places
from web.server import Address, serve_http
from web.settings import HttpLimits, HttpSettings

FEW: Final = HttpLimits(max_connections=3)


def _places(most: int = 9, of_address: int | None = None) -> tuple[Places, CollectorRegistry, list[float]]:
    """Places, what Prometheus sees of them, and the clock as its last element says."""
    registry, clock = CollectorRegistry(), [0.0]
    return Places(most, of_address, HttpMetrics(registry), lambda: clock[-1]), registry, clock


def _refused(registry: CollectorRegistry, why: str) -> float | None:
    return registry.get_sample_value("headrace_http_connections_refused_total", {"why": why})


def test_places_are_counted_in_all_and_given_back() -> None:
    """Whoever has one; what was refused took none."""
    places, registry, _ = _places(2)
    assert [places.enter(host) for host in ("10.0.0.1", "10.0.0.1", "10.0.0.2")] == [True, True, False]
    assert registry.get_sample_value("headrace_http_connections_open") == 2
    assert _refused(registry, "too_many") == 1
    places.leave("10.0.0.1")
    assert places.enter("10.0.0.2")
    assert not places.enter("10.0.0.3")


@pytest.mark.parametrize(
    ("first", "same", "other"),
    [
        ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
        ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1", "::ffff:10.0.0.2"),
        ("::ffff:10.0.0.1", "10.0.0.1", "fe80::1%eth0"),
    ],
)
def test_places_are_counted_of_each_address(first: str, same: str, other: str) -> None:
    """IPv4 however it comes, IPv6 by its /64."""
    places, registry, _ = _places(of_address=1)
    assert [places.enter(host) for host in (first, same, other)] == [True, False, True]
    assert _refused(registry, "too_many_of_address") == 1
    places.leave(first)
    assert places.enter(same)


def test_a_flood_of_refusals_is_few_lines() -> None:
    """The first at once, the next after ten seconds with how many it is about."""
    places, _, clock = _places(0)
    with capture_logs() as said:
        for moment in (0.0, 1.0, 9.9, 10.0, 11.0):
            clock.append(moment)
            places.enter("10.0.0.1")
    assert [line["times"] for line in said] == [1, 3]
    assert {line["event"] for line in said} == {"http_connection_refused"}


async def test_who_comes_too_many_is_closed_at_once_and_who_is_within_is_answered(shop: Shop) -> None:
    """Also where all places are taken; and there is room again when one goes."""
    connector = aiohttp.TCPConnector(limit=1)
    async with shop.serve(FEW) as address, aiohttp.ClientSession(connector=connector) as within:
        assert await _alive(within, address)
        async with AsyncExitStack() as strangers:
            for _ in range(2):
                _, writer = await asyncio.open_connection(address.host, address.port)
                strangers.callback(writer.close)
            for _ in range(20):
                assert await _is_closed(address)
                assert await _alive(within, address)

        async def answered() -> bool:
            return not await _is_closed(address, b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")

        await until(answered)


async def test_one_address_takes_no_more_than_is_configured_and_figures_tell() -> None:
    """The registry has who is there and who was refused."""
    registry = CollectorRegistry()
    settings = HttpSettings(port=0, max_connections_per_address=1)
    async with serve_http(_ready, settings, registry=registry) as address:
        _, writer = await asyncio.open_connection(address.host, address.port)
        assert await _is_closed(address)
        assert _refused(registry, "too_many_of_address") == 1
        assert registry.get_sample_value("headrace_http_connections_open") == 1
        writer.close()
        await until(lambda: registry.get_sample_value("headrace_http_connections_open") == 0)


async def _ready(*_: object) -> None:
    """An application that can start, and of which nobody asks anything."""


async def _alive(client: aiohttp.ClientSession, address: Address) -> bool:
    async with client.get(f"{address.url}/healthz") as answer:
        return answer.status == 200


async def _is_closed(address: Address, request: bytes = b"") -> bool:
    """Whether a connection ends without an answer."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 20) == b""
    except ConnectionResetError:
        return True
    finally:
        writer.close()
