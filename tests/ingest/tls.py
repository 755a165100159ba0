"""Machines and strangers at a listener that speaks TLS."""

import asyncio
import ssl
from typing import Any

from ingest.settings import IngestSettings
from tests.ingest.building import DEADLINE_S
from tests.ingest.floor import Floor, Machine, reached
from tests.support.certificates import Certificates as Plant


def settings(plant: Plant, **changed: Any) -> IngestSettings:
    """Mutual TLS on free ports."""
    usual: dict[str, Any] = {
        "port": 0,
        "ack_port": 0,
        "tick_ms": 1,
        "tls_cert": str(plant.server.certificate),
        "tls_key": str(plant.server.key),
        "tls_client_ca": str(plant.ca),
    }
    return IngestSettings(**(usual | changed))


def client(plant: Plant, name: str | None = "E0001") -> ssl.SSLContext:
    """A machine that trusts the plant, with its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(plant.ca)
    if name is not None:
        pair = plant.stranger if name == "stranger" else plant.devices[name]
        context.load_cert_chain(pair.certificate, pair.key)
    return context


async def connect(shop: Floor, context: ssl.SSLContext, *, acknowledged: bool = False) -> Machine:
    """A machine that has been admitted."""
    before = len(shop.opened)
    port = shop.listener.ports[acknowledged]
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )
    await reached(lambda: len(shop.opened) > before, "the opening")
    return Machine(reader, writer, shop.opened[before].connection)


def refused(shop: Floor, why: str) -> int:
    """How many were refused for this reason."""
    return int(shop.metrics.refused.labels(why)._value.get())


async def say(shop: Floor, data: bytes) -> Machine:
    """A stranger that speaks no TLS, or something like it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", shop.listener.ports[0])
    writer.write(data)
    return Machine(reader, writer, 0)


async def first_word(shop: Floor, context: ssl.SSLContext) -> bytes:
    """What a client hears; in TLS 1.3 one that is refused hears of it only after its handshake."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", shop.listener.ports[0], ssl=context, server_hostname="localhost"
    )
    try:
        return await asyncio.wait_for(reader.read(), DEADLINE_S)
    finally:
        writer.close()
