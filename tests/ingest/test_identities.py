"""Who a machine proved to be, how that is shown, and what it may send."""

import asyncio
from typing import Any

import msgspec
import pytest

from ingest.errors import HandshakeError
from ingest.tls import identity_of
from parser.block import Allowance
from parser.parsed import ParsedBlock
from parser.settings import Rules
from parser.verdicts import Reason
from tests.ingest.building import DEADLINE_S
from tests.ingest.floor import RECORD, Machine, floor, reached
from tests.ingest.tls import client, connect, settings
from tests.support.certificates import Certificates as Plant

pytestmark = pytest.mark.usefixtures("nothing_unexpected")


async def test_without_an_authority_for_machines_nobody_has_an_identity(certificates: Plant) -> None:
    async with floor(settings(certificates, tls_client_ca=None)) as shop:
        machine = await connect(shop, client(certificates, None))
        await machine.send(RECORD)
        await reached(lambda: shop.records == 1, "the record")
        assert shop.opened[0].identity is None
        await machine.close()


async def test_too_many_of_an_identity_are_closed_with_that_reason(certificates: Plant) -> None:
    """They are in the table, as who they are was known only when they were in; others are not concerned."""
    async with floor(settings(certificates, max_connections_per_identity=1)) as shop:
        machine = await connect(shop, client(certificates))
        second = await connect(shop, client(certificates))
        third = await connect(shop, client(certificates), acknowledged=True)
        await reached(lambda: len(shop.closed) == 2, "the closings")
        why = {event.connection: event.why for event in shop.closed}
        assert why == dict.fromkeys((second.number, third.number), "too_many_of_identity")
        assert [await each.rest() for each in (second, third)] == [b"", b""]
        other = await connect(shop, client(certificates, "E0002"))
        for each in (machine, other):
            await each.send(RECORD)
        await reached(lambda: shop.records == 2, "a record of each")
        await machine.close()
        await reached(lambda: len(shop.closed) == 3, "the end")
        again = await connect(shop, client(certificates))
        for each in (again, other):
            await each.close()


@pytest.mark.parametrize(
    ("certificate", "identity"),
    [
        ({"subjectAltName": (("URI", "urn:x"), ("DNS", "E1"), ("DNS", "E2"))}, "E1"),
        ({"subjectAltName": (("IP Address", "10.0.0.1"), ("URI", "urn:x")), "subject": ()}, "urn:x"),
        ({"subject": ((("organizationName", "Plant"),), (("commonName", "press 7"),))}, "press 7"),
        ({"subject": ((("commonName", "Fräse"),),)}, "Fräse"),
    ],
)
def test_the_identity_is_the_first_name_of_the_best_kind(certificate: dict[str, Any], identity: str) -> None:
    assert identity_of(certificate) == identity


@pytest.mark.parametrize("name", ["", "a\nb", "a\x1b[m", "a\u202eb", "a\0b", "x" * 256])
def test_a_name_that_can_not_be_shown_is_no_identity(name: str) -> None:
    with pytest.raises(HandshakeError, match="no name that can be used"):
        identity_of({"subject": ((("commonName", name),),)})


async def test_a_long_list_of_devices_is_kept_once_and_written_no_more_often_than_is_bounded(
    certificates: Plant,
) -> None:
    """It is in every block that the gateway sends something in, however little that is."""
    devices = tuple(f"E{number:07}" for number in range(20_000))
    bound = settings(certificates, bind_identity=True, identities={"gateway-1": devices})
    async with floor(bound) as shop:
        gateway = await connect(shop, client(certificates, "gateway-1"))
        shop.commits = False
        while not shop.listener.gate.closed:
            before = shop.records
            await gateway.send(RECORD)
            await reached(lambda: shop.records > before, "the record")  # noqa: B023  # it is waited for here
        assert shop.listener.gate.reasons == {"commit_queue"}
        lists = [each.devices for block in shop.blocks for each in block.allowed or () if block.payload]
        assert {id(each) for each in lists} == {id(lists[0])}
        assert sum(map(len, lists)) * 8 < 10 << 20
        shop.commits = True
        shop.commit()
        await gateway.close()


async def test_blocks_say_who_may_send_what(certificates: Plant) -> None:
    """With `bind_identity`: each its own device, and those in its list."""
    bound = settings(certificates, bind_identity=True, identities={"gateway-1": ("E0002", "E0003")})
    async with floor(bound) as shop:
        machine = await connect(shop, client(certificates))
        gateway = await connect(shop, client(certificates, "gateway-1"))
        await machine.send(RECORD + RECORD.replace(b"E0001", b"E0002"))
        await gateway.send(RECORD + RECORD.replace(b"E0001", b"E0002"))
        await reached(lambda: shop.records == 4, "the records")
        fates = [ParsedBlock.of(block) for block in shop.blocks if block.payload]
        assert {each for block in shop.blocks for each in block.allowed or ()} == {
            Allowance((machine.number,), ("E0001",)),
            Allowance((gateway.number,), ("gateway-1", "E0002", "E0003")),
        }
        rejects = [reject.verdict for parsed in fates for reject in parsed.columns.rejects]
        assert [(r.reason, r.device_id) for r in rejects] == [
            (Reason.WRONG_IDENTITY, "E0002"),
            (Reason.WRONG_IDENTITY, "E0001"),
        ]
        await machine.close()
        await gateway.close()


async def test_what_has_arrived_is_judged_by_the_lists_of_its_time(certificates: Plant) -> None:
    """However late it is parsed, and over the same connection; also of an identity that lost its list."""
    bound = settings(certificates, tick_ms=10_000, bind_identity=True, identities={"gateway-1": ("E0001",)})
    async with floor(bound) as shop:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            shop.listener.ports[0],
            ssl=client(certificates, "gateway-1"),
            server_hostname="localhost",
        )
        await reached(lambda: shop.listener.connections, "the connection")
        [connection] = shop.listener.connections
        for lists in ({"gateway-1": ("E0002",)}, {}):
            before = connection.bytes
            writer.write(RECORD + RECORD.replace(b"E0001", b"E0002"))
            await reached(lambda: connection.bytes - before == 2 * len(RECORD), "the records")  # noqa: B023  # it is waited for here
            shop.listener.change(msgspec.structs.replace(bound, identities=lists), Rules())
        writer.write(RECORD)
        await reached(lambda: connection.bytes == 5 * len(RECORD), "the last record")
        shop.listener.assembler.tick()
        parsed = [ParsedBlock.of(block) for block in shop.blocks if block.payload]
        assert [each.columns.devices for each in parsed] == [["E0001"], ["E0002"], []]
        rejects = [[reject.verdict.device_id for reject in each.columns.rejects] for each in parsed]
        assert rejects == [["E0002"], ["E0001"], ["E0001"]]
        await Machine(reader, writer, connection.id).close()


async def test_a_list_is_said_once_for_all_connections_of_an_identity(certificates: Plant) -> None:
    """So what a block carries of lists is bounded by the configuration, not by who connects how often."""
    bound = settings(certificates, bind_identity=True, identities={"gateway-1": ("E0002",)})
    async with floor(bound) as shop:
        machines = [await connect(shop, client(certificates, "gateway-1")) for _ in range(3)]
        shop.listener.assembler._timer = asyncio.get_running_loop().call_later(DEADLINE_S, print)  # no tick
        for machine in machines:
            await machine.send(RECORD.replace(b"E0001", b"E0002"))
        await reached(lambda: len(shop.listener.assembler.arrivals.pieces) == 3, "the records")
        shop.listener.assembler.tick()
        [allowance] = shop.blocks[-1].allowed or ()
        assert set(allowance.connections) == {machine.number for machine in machines}
        assert allowance.devices == ("gateway-1", "E0002")
        for machine in machines:
            await machine.close()
