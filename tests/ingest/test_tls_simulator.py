"""The simulator speaks TLS: whatever its scenario, what it says it sent is what arrives."""

import asyncio
from pathlib import Path

import pytest

from ingest.settings import IngestSettings
from simulator import blast
from simulator.encryption import client_context
from simulator.errors import EncryptionError, UnreachableError
from simulator.options import SimulateOptions
from simulator.run import simulate
from tests.ingest.floor import floor, reached
from tests.support.certificates import Certificates


def settings(plant: Certificates) -> IngestSettings:
    """Mutual TLS on free ports."""
    return IngestSettings(
        port=0,
        ack_port=0,
        tick_ms=1,
        tls_cert=str(plant.server.certificate),
        tls_key=str(plant.server.key),
        tls_client_ca=str(plant.ca),
    )


@pytest.mark.parametrize(
    ("scenario", "ack"),
    [("normal", True), ("split", True), ("garbage", False), ("storm", True), ("cut", False)],
)
async def test_the_truth_is_what_arrives(certificates: Certificates, scenario: str, ack: bool) -> None:  # noqa: FBT001  # a parameter of pytest's
    """And all that was to be acknowledged is."""
    mine = certificates.devices["gateway-1"]
    async with floor(settings(certificates)) as shop:
        options = SimulateOptions(
            port=shop.listener.ports[ack],
            devices=6,
            connections=3,
            rate=200,
            records=600,
            scenario=scenario,
            storm_every_s=0.1,
            ack=ack,
            tls_ca=certificates.ca,
            tls_cert=mine.certificate,
            tls_key=mine.key,
        )
        truth = await simulate(options)
        await reached(lambda: not shop.listener.connections, "the end of all connections")
        await reached(lambda: len(shop.closed) == len(shop.opened), "all closings")
        assert shop.records == truth.totals.sent
        assert truth.totals.acknowledged == (truth.totals.sent if ack else 0)
        assert truth.totals.lost == 0
        assert {opened.identity for opened in shop.opened} == {"gateway-1"}
        resets = sum(closed.why == "reset" for closed in shop.closed)
        assert resets == (2 if scenario == "cut" else 0)


@pytest.mark.parametrize("ack", [False, True])
async def test_a_blast_arrives_whole(certificates: Certificates, ack: bool) -> None:  # noqa: FBT001  # a parameter of pytest's
    mine = certificates.devices["gateway-1"]
    async with floor(settings(certificates)) as shop:
        result = await asyncio.to_thread(
            blast.send,
            "127.0.0.1",
            shop.listener.ports[ack],
            blast.prepare(20, 10_000),
            connections=3,
            records=50_000,
            ack=ack,
            tls=client_context(certificates.ca, mine.certificate, mine.key),
        )
        await reached(lambda: len(shop.closed) == 3, "all closings")
        assert (result.sent, shop.records) == (50_000, 50_000)
        assert result.acknowledged == (50_000 if ack else 0)
        assert {closed.why for closed in shop.closed} == {"closed"}


async def test_a_server_of_strangers_is_not_sent_to(certificates: Certificates, tmp_path: Path) -> None:
    """In one clear error; so is a file that is none."""
    async with floor(settings(certificates)) as shop:
        options = SimulateOptions(port=shop.listener.ports[0], tls_ca=certificates.stranger.certificate)
        with pytest.raises(UnreachableError):
            await simulate(options)
        assert not shop.opened
    (tmp_path / "ca.pem").write_text("nonsense")
    with pytest.raises(EncryptionError, match=r"ca\.pem: can't be used for TLS"):
        client_context(tmp_path / "ca.pem")
