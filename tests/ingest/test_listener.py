"""The listeners on real sockets: what was sent is what is in the blocks, numbered and with its ending."""

import asyncio
import random
import socket
import struct

import pytest
from structlog.testing import capture_logs

from ingest import listener
from ingest.connection import Connection
from ingest.errors import ListenError
from ingest.settings import IngestSettings
from parser.block import Closed, Started
from parser.framing import Ending
from parser.settings import RecordSettings, Rules
from tests.ingest.building import DEADLINE_S
from tests.ingest.floor import RECORD, Floor, Machine, floor, reached


def _numbers_join(shop: Floor) -> bool:
    """Whether ids and record numbers follow each other from block to block, and stamps grow."""
    pairs = list(zip(shop.blocks, shop.blocks[1:], strict=False))
    return all(
        b.id == a.id + 1 and b.first_record == a.next_record and b.stamp_us > a.stamp_us for a, b in pairs
    )


async def test_the_first_block_says_that_the_server_began() -> None:
    async with floor() as shop:
        first = shop.blocks[0]
        assert (first.id, first.first_record, first.records) == (1, 100, 0)
        assert first.events == (Started("0.0.0"),)


@pytest.mark.parametrize("seed", range(5))
async def test_what_was_sent_is_what_is_in_the_blocks(seed: int) -> None:
    """Several machines at once, in whatever pieces: each stream is complete and in its order."""
    picked = random.Random(seed)  # noqa: S311
    async with floor() as shop:
        machines = [await shop.connect() for _ in range(5)]
        sent = [b"".join(b"%d,%d#" % (m.number, n) for n in range(400)) for m in machines]
        left = list(sent)
        while any(left):
            place = picked.choice([p for p, data in enumerate(left) if data])
            size = picked.choice([1, 3, 17, 200, 5000])
            await machines[place].send(left[place][:size])
            left[place] = left[place][size:]
            if picked.random() < 0.2:
                await asyncio.sleep(0.002)
        await reached(lambda: shop.records == 2000, "all records")
        assert [shop.stream(m.number) for m in machines] == sent
        assert _numbers_join(shop)
        assert len(shop.blocks) > 5
        assert all(sum(b.payload.count(b"#") for b in shop.blocks) == 2000 for _ in machines)
        for machine in machines:
            await machine.close()


async def test_openings_and_closings_travel_in_blocks() -> None:
    """With the peer as it is seen, why it ended, and how many bytes came."""
    async with floor() as shop:
        machine = await shop.connect()
        host, port = machine.writer.get_extra_info("sockname")[:2]
        assert shop.opened[0].peer == f"{host}:{port}"
        await machine.send(RECORD * 3)
        await machine.close()
        await reached(lambda: shop.closed, "the closing")
        assert shop.closed == [Closed(machine.number, "closed", 3 * len(RECORD))]
        other = await shop.connect()
        assert other.number > machine.number
        await other.close()


async def test_a_client_that_resets_at_once_is_opened_and_closed() -> None:
    async with floor() as shop:
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", shop.listener.ports[0])
            writer.transport.abort()
        machine = await shop.connect()
        await machine.send(RECORD)
        await reached(lambda: shop.records == 1, "the record")
        await machine.close()
        await reached(lambda: not shop.listener.connections, "the end of all")
        await reached(lambda: len(shop.closed) == len(shop.opened), "all closings")
        assert {e.connection for e in shop.closed} == {e.connection for e in shop.opened}


async def test_a_mistake_of_ours_costs_one_connection_and_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed, counted and in the log once, in words; the next one has its place."""

    def fails(*_: object) -> None:
        raise ZeroDivisionError("on purpose")

    async with floor(IngestSettings(port=0, tick_ms=1, max_connections=2)) as shop:
        with monkeypatch.context() as mistake, capture_logs() as said:
            mistake.setattr(listener, "_keep_alive", fails)
            for _ in range(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", shop.listener.ports[0])
                assert await reader.read() == b""
                writer.close()
        assert shop.metrics.refused.labels("failed")._value.get() == 5
        assert [(line["event"], line["detail"]) for line in said] == [
            ("connection_refused", "ZeroDivisionError('on purpose')")
        ]
        assert shop.listener.admission.taken == 0
        for machine in [await shop.connect(), await shop.connect()]:
            await machine.close()


async def test_a_socket_that_the_kernel_has_given_up_is_counted_and_said() -> None:
    """One line of a flood. Linux takes options of one that was reset, too; but not TCP's on another kind."""
    async with floor() as shop:
        with capture_logs() as said:
            for _ in range(3):
                ours, theirs = socket.socketpair()
                with theirs:
                    ours.setblocking(False)
                    address = ("10.0.0.1", 40_000)
                    visitor = Connection(shop.listener, Rules(), address, acknowledges=False)
                    shop.listener._accepted(ours, visitor)
                    await reached(lambda: not shop.listener._adopting, "the refusal")
                    assert theirs.recv(1) == b""
        assert shop.metrics.refused.labels("gone")._value.get() == 3
        assert [(line["event"], line["reason"], line["peer"]) for line in said] == [
            ("connection_refused", "gone", "10.0.0.1")
        ]
        assert said[0]["detail"]
        assert shop.listener.admission.taken == 0


@pytest.mark.parametrize(("rule", "ending"), [("record", Ending.CLEAN), ("reject", Ending.STRICT)])
async def test_a_tail_at_a_clean_close_ends_as_configured(rule: str, ending: Ending) -> None:
    settings = IngestSettings(port=0, tick_ms=1, end_of_stream=rule)  # type: ignore[arg-type]
    async with floor(settings) as shop:
        machine = await shop.connect()
        await machine.send(RECORD + RECORD[:-1])
        await machine.close()
        await reached(lambda: shop.closed, "the closing")
        assert shop.stream(machine.number) == RECORD * 2
        assert shop.endings[-1] is ending
        assert shop.records == 2


async def test_a_tail_at_a_reset_is_cut_off() -> None:
    """Its whole records before it are not."""
    async with floor() as shop:
        machine = await shop.connect()
        await machine.send(RECORD + b"E0001,35")
        await reached(lambda: shop.records == 1, "the whole record")
        machine.reset()
        await reached(lambda: shop.closed, "the closing")
        assert shop.closed[0].why == "reset"
        assert shop.endings == [Ending.DELIMITER, Ending.RESET]
        assert shop.stream(machine.number) == RECORD + b"E0001,35#"


async def test_the_end_of_the_server_ends_all_streams() -> None:
    """Tails are cut off, nobody new is accepted, everybody is hung up on."""
    async with floor() as shop:
        machine = await shop.connect()
        port = shop.listener.ports[0]
        await machine.send(RECORD + b"E0001,35")
        await reached(lambda: shop.records == 1, "the whole record")
        shop.listener.stop()
        assert shop.endings[-1] is Ending.SHUTDOWN
        assert shop.closed[-1].why == "shutdown"
        await asyncio.sleep(0)
        assert not shop.listener.listening
        with pytest.raises(OSError, match=r"Connect call failed|refused"):
            await asyncio.open_connection("127.0.0.1", port)
        await reached(shop.listener.assembler.settled.is_set, "the last commit")
        shop.listener.hang_up()
        assert await machine.rest() == b""


async def test_a_machine_that_is_silent_for_too_long_is_closed() -> None:
    """A tail it left is cut off by the timeout."""
    settings = IngestSettings(port=0, tick_ms=1, idle_timeout_s=0.5)
    async with floor(settings) as shop:
        machine = await shop.connect()
        await machine.send(RECORD + b"E0001,35")
        assert await machine.rest() == b""
        await reached(lambda: shop.closed, "the closing")
        assert shop.closed[0].why == "idle_timeout"
        assert shop.endings[-1] is Ending.TIMEOUT


async def test_time_that_we_paused_is_not_idle_time() -> None:
    """A machine that we don't read from can't be blamed for being silent."""
    settings = IngestSettings(port=0, tick_ms=1, idle_timeout_s=1.0)
    async with floor(settings) as shop:
        machine = await shop.connect()
        shop.listener.gate.close("test")
        loop = asyncio.get_running_loop()
        for connection in shop.listener.connections:
            connection.heard = loop.time() - 100
        shop.listener._sweep()
        assert not shop.closed
        shop.listener.gate.open("test")
        shop.listener._sweep()
        assert len(shop.listener.connections) == 1
        await machine.send(RECORD)
        await reached(lambda: shop.records == 1, "the record")
        await machine.close()


async def test_a_closed_gate_stops_all_reading() -> None:
    """Also of machines that come later; when it opens, everything arrives."""
    async with floor() as shop:
        early = await shop.connect()
        shop.listener.gate.close("test")
        late = await shop.connect()
        early.writer.write(RECORD * 100)
        late.writer.write(RECORD * 100)
        for _ in range(50):
            await asyncio.sleep(0.002)
            assert shop.records == 0
        shop.listener.gate.open("test")
        await reached(lambda: shop.records == 200, "all records")
        await early.close()
        await late.close()


async def test_a_closed_gate_stops_also_the_first_read() -> None:
    """Of machines that had sent before they were accepted; who goes away meanwhile is noticed behind it."""
    async with floor() as shop:
        shop.listener.gate.close("test")
        machines = []
        for _ in range(20):  # the kernel takes them in while the loop does not run
            machines.append(
                socket.create_connection(("127.0.0.1", shop.listener.ports[0]), timeout=DEADLINE_S)
            )
            machines[-1].sendall(RECORD * 100)
        await reached(lambda: len(shop.opened) == 20, "the openings")
        machines.pop().close()
        machines[-1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        machines.pop().close()
        for _ in range(50):
            await asyncio.sleep(0.002)
            assert shop.records == 0
        shop.listener.gate.open("test")
        await reached(lambda: shop.records == 2_000, "all records")
        await reached(lambda: len(shop.closed) == 2, "the ends of those that went")
        assert {event.why for event in shop.closed} == {"closed", "reset"}
        for machine in machines:
            machine.close()


async def test_what_waits_to_become_durable_is_bounded() -> None:
    """A journal that commits nothing pauses the machines; when it does, they go on by themselves."""
    async with floor() as shop:
        machine = await shop.connect()
        shop.commits = False
        size = 40_000_000 // len(RECORD)
        sending = asyncio.create_task(machine.send(RECORD * size))
        await reached(lambda: shop.listener.gate.closed, "the pause")
        assert shop.listener.gate.reasons == {"commit_queue"}
        waiting = sum(len(block.payload) for block in shop.blocks)
        assert 8 << 20 <= waiting <= 10 << 20
        for _ in range(20):
            await asyncio.sleep(0.002)
        assert sum(len(block.payload) for block in shop.blocks) == waiting
        shop.commits = True
        shop.commit()
        await sending
        await reached(lambda: shop.records == size, "all records")
        assert not shop.listener.gate.closed
        await machine.close()


async def test_what_is_kept_beside_few_bytes_is_bounded_too() -> None:
    """A hundred senders of one byte each: whom to tell, and which byte is whose, is more than the bytes."""
    async with floor() as shop:
        machines = [await shop.connect(acknowledged=True) for _ in range(100)]
        shop.commits = False
        sent = 0

        def came() -> bool:
            return shop.records == 100 * sent or shop.listener.gate.closed

        while not shop.listener.gate.closed:
            for machine in machines:
                await machine.send(b"#")
            sent += 1
            await reached(came, "the bytes")
        assert shop.listener.gate.reasons == {"commit_queue"}
        assert sent < 1_000
        shop.commits = True
        shop.commit()
        assert not shop.listener.gate.closed
        for machine in machines:
            while await machine.acknowledged() < sent:
                pass
            await machine.close()


async def test_a_mebibyte_is_a_block_before_the_tick() -> None:
    """So blocks stay small however long a tick is."""
    settings = IngestSettings(port=0, tick_ms=10_000)
    async with floor(settings) as shop:
        _, writer = await asyncio.open_connection("127.0.0.1", shop.listener.ports[0])
        writer.write(RECORD * 200_000)
        await reached(lambda: len(shop.blocks) > 4, "blocks")
        assert all(len(block.payload) < 2 << 20 for block in shop.blocks)
        writer.close()
        await writer.wait_closed()


async def test_a_stream_without_delimiters_is_one_reject() -> None:
    """64 MB of it: the memory held stays small, and the connection goes on behind it."""
    async with floor() as shop:
        machine = await shop.connect()
        piece = b"x" * (1 << 20)
        for _ in range(64):
            await machine.send(piece)
            assert sum(len(block.payload) for block in shop.blocks) <= 513
        await machine.send(b"#" + RECORD)
        await reached(lambda: shop.records == 2, "the reject and the record")
        assert shop.endings[0] is Ending.OVERSIZE
        assert shop.stream(machine.number) == b"x" * 512 + b"#" + RECORD
        await machine.close()
        await reached(lambda: shop.closed, "the closing")
        assert shop.closed[0].bytes == (64 << 20) + 1 + len(RECORD)


async def test_connections_over_the_limit_are_refused() -> None:
    """And counted; when one leaves there is room again."""
    settings = IngestSettings(port=0, tick_ms=1, max_connections=2)
    async with floor(settings) as shop:
        machines = [await shop.connect() for _ in range(2)]
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.listener.ports[0])
        assert await Machine(reader, writer, 0).rest() == b""
        assert shop.metrics.refused.labels("too_many")._value.get() == 1
        assert len(shop.opened) == 2
        await machines[0].close()
        await reached(lambda: len(shop.listener.connections) == 1, "the end")
        third = await shop.connect()
        await third.close()
        await machines[1].close()


@pytest.mark.parametrize(
    ("host", "allow", "welcome"),
    [
        ("127.0.0.1", ("127.0.0.0/8",), True),
        ("127.0.0.1", ("10.0.0.0/8", "127.0.0.1/32"), True),
        ("127.0.0.1", ("10.0.0.0/8",), False),
        ("::1", ("127.0.0.0/8", "::1/128"), True),
        ("::1", ("127.0.0.0/8",), False),
    ],
)
async def test_only_allowed_networks_may_connect(
    host: str,
    allow: tuple[str, ...],
    welcome: bool,  # noqa: FBT001  # a column of the table
) -> None:
    """Everybody else is refused and counted."""
    settings = IngestSettings(host=host, port=0, tick_ms=1, allow=allow)
    async with floor(settings) as shop:
        reader, writer = await asyncio.open_connection(host, shop.listener.ports[0])
        if welcome:
            await reached(lambda: shop.opened, "the opening")
        else:
            await reached(lambda: shop.metrics.refused.labels("not_allowed")._value.get() == 1, "the refusal")
            assert not shop.opened
        writer.close()
        del reader


async def test_an_address_has_its_own_bound() -> None:
    """Further ones are refused and counted; when one leaves there is room again."""
    settings = IngestSettings(port=0, tick_ms=1, max_connections_per_address=2)
    async with floor(settings) as shop:
        machines = [await shop.connect() for _ in range(2)]
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.listener.ports[0])
        assert await Machine(reader, writer, 0).rest() == b""
        assert shop.metrics.refused.labels("too_many_of_address")._value.get() == 1
        await machines.pop().close()
        await reached(lambda: shop.listener.admission.taken == 1, "the end")
        machines.append(await shop.connect())
        for machine in machines:
            await machine.close()


async def test_new_limits_count_for_those_who_are_here() -> None:
    """Deadlines and `allow`; who may not be here any more is closed with that reason."""
    async with floor() as shop:
        machine = await shop.connect()
        [connection] = shop.listener.connections
        connection.begun -= 10
        shop.listener.change(IngestSettings(first_record_timeout_s=5.0, allow=("127.0.0.0/8",)), Rules())
        shop.listener._sweep()
        await reached(lambda: shop.closed, "the closing")
        other = await shop.connect()
        shop.listener.change(IngestSettings(allow=("10.0.0.0/8",)), Rules())
        await reached(lambda: len(shop.closed) == 2, "the closing of the other one")
        assert [event.why for event in shop.closed] == ["no_record", "not_allowed"]
        for gone in (machine, other):
            assert await gone.rest() == b""


async def test_new_rules_are_those_of_the_next_block() -> None:
    """What came before is read as it was meant."""
    settings = IngestSettings(port=0, tick_ms=10_000)
    async with floor(settings) as shop:
        _, writer = await asyncio.open_connection("127.0.0.1", shop.listener.ports[0])
        await reached(lambda: shop.listener.connections, "the connection")
        [connection] = shop.listener.connections
        writer.write(RECORD)
        await reached(lambda: connection.bytes == len(RECORD), "the record")
        strict = Rules(record=RecordSettings(limits={"power_kw": (0.0, 1.0)}))
        shop.listener.change(settings, strict)
        assert shop.blocks[-1].payload == RECORD
        assert shop.blocks[-1].rules == Rules()
        writer.write(RECORD)
        await reached(lambda: connection.bytes == 2 * len(RECORD), "another record")
        shop.listener.assembler.tick()
        assert shop.blocks[-1].rules == strict
        writer.close()


async def test_a_port_that_is_taken_is_named() -> None:
    async with floor() as shop:
        settings = IngestSettings(port=shop.listener.ports[0])
        with pytest.raises(
            ListenError, match=r"can't listen on 127.0.0.1 port \d+ .*\[ingest\] host and port"
        ):
            async with floor(settings):  # says it
                pass
