"""Acknowledgements: exactly `ACK,<n>#`, only for what is durable, only to those who asked for them."""

import asyncio

from ingest.connection import Connection
from ingest.settings import IngestSettings
from parser.framing import Ending
from tests.ingest.building import DEADLINE_S
from tests.ingest.floor import RECORD, Floor, floor, reached


def _only(shop: Floor) -> Connection:
    [connection] = shop.listener.connections
    return connection


async def test_an_acknowledgement_comes_after_the_commit_and_not_before() -> None:
    async with floor() as shop:
        machine = await shop.connect(acknowledged=True)
        shop.commits = False
        await machine.send(RECORD * 3)
        await reached(lambda: shop.records == 3, "the block")
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert not machine.reader._buffer  # type: ignore[attr-defined]
        shop.commit()
        assert await asyncio.wait_for(machine.reader.readexactly(6), DEADLINE_S) == b"ACK,3#"
        await machine.close()


async def test_an_acknowledgement_counts_all_records_of_its_connection() -> None:
    """Rejects and empty ones too, over all blocks, whatever other machines send."""
    async with floor() as shop:
        other = await shop.connect(acknowledged=True)
        machine = await shop.connect(acknowledged=True)
        await other.send(RECORD * 50)
        await machine.send(b"nonsense###" + RECORD)
        assert await machine.acknowledged() == 4
        await machine.send(RECORD + b"E0001,3")
        assert await machine.acknowledged() == 5
        await machine.send(b"5#")
        assert await machine.acknowledged() == 6
        await other.close()
        await machine.close()


async def test_on_the_first_listener_nothing_is_ever_written() -> None:
    async with floor() as shop:
        machine = await shop.connect()
        await machine.send(RECORD * 10)
        await reached(lambda: shop.records == 10, "the records")
        machine.writer.write_eof()
        assert await machine.rest() == b""


async def test_a_half_close_gets_the_last_acknowledgement_and_is_closed() -> None:
    """After the commit; the tail counts too."""
    async with floor() as shop:
        machine = await shop.connect(acknowledged=True)
        shop.commits = False
        await machine.send(RECORD * 2 + RECORD[:-1])
        machine.writer.write_eof()
        await reached(lambda: shop.closed, "the closing")
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not machine.reader.at_eof()
        assert len(shop.listener.connections) == 1
        shop.commit()
        assert (await machine.rest()).endswith(b"ACK,3#")
        assert shop.endings[-1] is Ending.CLEAN


async def test_a_half_close_without_records_is_closed_too() -> None:
    async with floor() as shop:
        machine = await shop.connect(acknowledged=True)
        machine.writer.write_eof()
        assert await machine.rest() == b""


async def test_acknowledgements_that_cannot_be_sent_melt_into_the_newest() -> None:
    """While the sender doesn't read, nothing is piled up for it."""
    async with floor() as shop:
        machine = await shop.connect(acknowledged=True)
        connection = _only(shop)
        connection.pause_writing()
        for count in range(1, 30):
            await machine.send(RECORD)
            await reached(lambda count=count: shop.records == count, "a block")  # type: ignore[misc]
        await reached(shop.listener.assembler.settled.is_set, "the commit")
        connection.resume_writing()
        assert await machine.acknowledged() == 29
        await machine.send(RECORD)
        assert await machine.acknowledged() == 30
        await machine.close()


async def test_what_is_not_durable_is_not_acknowledged_when_writing_resumes() -> None:
    async with floor() as shop:
        machine = await shop.connect(acknowledged=True)
        connection = _only(shop)
        connection.pause_writing()
        await machine.send(RECORD)
        await reached(lambda: shop.records == 1, "a block")
        await reached(shop.listener.assembler.settled.is_set, "its commit")
        shop.commits = False
        await machine.send(RECORD)
        await reached(lambda: shop.records == 2, "another block")
        connection.resume_writing()
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert b"ACK,2#" not in machine.reader._buffer  # type: ignore[attr-defined]
        shop.commit()
        while await machine.acknowledged() < 2:
            pass
        await machine.close()


async def test_the_last_acknowledgement_waits_for_a_sender_that_reads_late() -> None:
    """A half-closed sender that was not reading gets the newest number before the end."""
    async with floor() as shop:
        machine = await shop.connect(acknowledged=True)
        connection = _only(shop)
        connection.pause_writing()
        await machine.send(RECORD * 7)
        machine.writer.write_eof()
        await reached(lambda: shop.closed, "the closing")
        await reached(shop.listener.assembler.settled.is_set, "the commit")
        assert len(shop.listener.connections) == 1
        connection.resume_writing()
        assert await machine.rest() == b"ACK,7#"


async def test_a_sender_that_never_takes_its_last_word_is_dropped() -> None:
    async with floor() as shop:
        machine = await shop.connect(acknowledged=True)
        connection = _only(shop)
        connection.pause_writing()
        await machine.send(RECORD)
        machine.writer.write_eof()
        await reached(lambda: shop.closed, "the closing")
        connection.heard -= 60
        shop.listener._sweep()
        await reached(lambda: not shop.listener.connections, "the end")
        await machine.rest()


async def test_a_sender_that_is_gone_costs_nothing() -> None:
    """Its records count, its acknowledgement goes nowhere."""
    async with floor() as shop:
        machine = await shop.connect(acknowledged=True)
        shop.commits = False
        await machine.send(RECORD)
        await reached(lambda: shop.records == 1, "the record")
        machine.reset()
        await reached(lambda: shop.closed, "the closing")
        shop.commit()
        await reached(lambda: not shop.listener.connections, "the end")


async def test_an_idle_sender_gets_its_last_acknowledgement() -> None:
    """The timeout ends its stream like a half-close, but what it cut off is not acknowledged."""
    settings = IngestSettings(port=0, ack_port=0, tick_ms=1, idle_timeout_s=0.5)
    async with floor(settings) as shop:
        machine = await shop.connect(acknowledged=True)
        await machine.send(RECORD + b"E0001,35")
        assert await machine.rest() == b"ACK,1#"
        assert (shop.endings[-1], shop.records) == (Ending.TIMEOUT, 2)


async def test_what_the_end_of_the_server_cuts_off_is_not_acknowledged() -> None:
    """Its sender may have sent all of it, and has to know that it must send it again."""
    async with floor() as shop:
        machine = await shop.connect(acknowledged=True)
        await machine.send(RECORD + RECORD[:9])
        assert await machine.acknowledged() == 1
        await machine.send(RECORD[9:] + RECORD + RECORD[:-1])
        await reached(lambda: _only(shop).bytes == 4 * len(RECORD) - 1, "all of it")
        shop.listener.stop()
        await reached(shop.listener.assembler.settled.is_set, "the last commit")
        shop.listener.hang_up()
        assert (await machine.rest()).endswith(b"ACK,3#")
        assert (shop.endings[-1], shop.records) == (Ending.SHUTDOWN, 4)


async def test_where_each_record_has_to_be_ended_a_tail_is_not_acknowledged() -> None:
    """A sender whose last write failed may have ended cleanly in the middle of a record."""
    settings = IngestSettings(port=0, ack_port=0, tick_ms=1, end_of_stream="reject")
    async with floor(settings) as shop:
        machine = await shop.connect(acknowledged=True)
        await machine.send(RECORD + RECORD[:-1])
        machine.writer.write_eof()
        assert await machine.rest() == b"ACK,1#"
        assert (shop.endings[-1], shop.records) == (Ending.STRICT, 2)


async def test_white_space_is_never_acknowledged() -> None:
    """However much of it a machine sends to keep its connection alive; its next record is as good as any."""
    async with floor() as shop:
        machine = await shop.connect(acknowledged=True)
        await machine.send(RECORD + b"\r\n" * 1_000)
        assert await machine.acknowledged() == 1
        await machine.send(b"\0" * 1_000 + RECORD + b" " * 1_000)
        machine.writer.write_eof()
        assert await machine.rest() == b"ACK,2#"
        assert (shop.endings, shop.records) == ([Ending.DELIMITER] * 2, 2)


async def test_white_space_that_was_passed_over_puts_no_record_out_of_its_place() -> None:
    """Although both its neighbours come within one tick."""
    async with floor() as shop:
        machine = await shop.connect()
        for data in (RECORD, b" " * 600, b"bad#"):
            _only(shop).data_received(data)
        await reached(lambda: shop.records == 2, "both")
        offsets = [int(chunk["offset"]) for block in shop.blocks for chunk in block.chunks]
        assert offsets == [0, len(RECORD) + 600]
        await machine.close()


async def test_a_record_too_long_is_acknowledged_with_its_neighbours() -> None:
    """Once, and not by itself: one answer for a block."""
    async with floor() as shop:
        machine = await shop.connect(acknowledged=True)
        for data in (RECORD + b"x" * 600, b"#" + RECORD * 2):
            _only(shop).data_received(data)
        assert await machine.acknowledged() == 4
        await machine.close()
