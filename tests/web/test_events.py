"""Server-sent events over real HTTP: what arrives is what was sent, and no client holds up another."""

import asyncio
import socket

import aiohttp
import msgspec
import pytest

from tests.web.desk import PASSWORD, Desk
from tests.web.shop import STAMP_MS, Shop, events_of, record, until
from web import events
from web.board import Board
from web.places import Cut
from web.settings import HttpLimits

Event = dict[str, object]


async def next_event(answer: aiohttp.ClientResponse) -> tuple[str, Event]:
    """The next event of a stream; comments are passed over."""
    text = ""
    while not (found := events_of(text)):
        text += (await answer.content.readuntil(b"\n\n")).decode()
    return found[0]


def devices(event: Event, name: str = "devices") -> dict[object, object]:
    """Spindle temperature by machine."""
    rows = msgspec.convert(event[name], list[dict[str, object]])
    return {row["device_id"]: row["spindle_temperature_c"] for row in rows}


async def test_live_shows_what_changed_and_nothing_else(shop: Shop, client: aiohttp.ClientSession) -> None:
    """The newest value of each machine that sent one since the last event."""
    async with client.get("/api/v1/live") as answer:
        assert answer.content_type == "text/event-stream"
        await until(lambda: shop.feed.watched)
        shop.send(record("E0001", 1, 0, 0, 0, 0) + record("E0002", 2, 0, 0, 0, 0))
        name, event = await next_event(answer)
        assert (name, devices(event), event["records"]) == ("latest", {"E0001": 1.0, "E0002": 2.0}, 2)
        shop.send(record("E0002", 3, 0, 0, 0, 0) + record("E0002", 4, 0, 0, 0, 0))
        _, event = await next_event(answer)
        assert (devices(event), event["records"]) == ({"E0002": 4.0}, 4)


async def test_live_of_one_machine_is_silent_about_others(shop: Shop, client: aiohttp.ClientSession) -> None:
    """`device` selects it."""
    async with client.get("/api/v1/live?device=E0002") as answer:
        await until(lambda: shop.feed.watched)
        shop.send(record("E0001"))
        shop.send(record("E0002"))
        shop.send(record("E0003"))
        assert list(devices((await next_event(answer))[1])) == ["E0002"]


@pytest.mark.parametrize(
    ("query", "told"),
    [("", [["E0002"], ["E0001", "E0002"], []]), ("?device=E0001", [[], ["E0001"], []])],
)
async def test_live_tells_who_is_claimed_twice_also_while_nobody_sends(
    shop: Shop, client: aiohttp.ClientSession, query: str, told: list[list[str]]
) -> None:
    """From its beginning on, when it begins and when it is over; of one machine where that is asked."""
    shop.claimed_twice = {"E0002"}
    async with client.get(f"/api/v1/live{query}") as answer:
        for then, expected in zip(({"E0001", "E0002"}, set(), {"E0001"}), told, strict=True):
            _, event = await next_event(answer)
            assert (devices(event), event["claimed_twice"]) == ({}, expected)
            shop.claimed_twice = then
        _, event = await next_event(answer)
        assert event["claimed_twice"] == ["E0001"]
        shop.send(record("E0001", 1, 0, 0, 0, 0))
        _, event = await next_event(answer)
        assert (devices(event), event["claimed_twice"]) == ({"E0001": 1.0}, None)


async def test_live_melts_a_burst_into_few_events(shop: Shop, client: aiohttp.ClientSession) -> None:
    """A thousand blocks don't make a thousand events, and the last one carries the newest value."""
    async with client.get("/api/v1/live") as answer:
        await until(lambda: shop.feed.watched)
        count = 0
        for step in range(1_000):
            shop.send(record("E0001", float(step), 0, 0, 0, 0))
            if step % 50 == 0:
                await asyncio.sleep(0)
        temperature: object = None
        while temperature != 999.0:
            _, event = await next_event(answer)
            temperature = devices(event)["E0001"]
            count += 1
        assert count < 20


async def test_the_feed_is_left_alone_when_the_last_browser_goes(
    shop: Shop, client: aiohttp.ClientSession
) -> None:
    """However many there were; and the next one sees fresh values again."""
    for _ in range(2):
        first = await client.get("/api/v1/live")
        second = await client.get("/api/v1/stream")
        await until(lambda: len(shop.feed._watchers) == 2)
        shop.send(record("E0001", 7, 0, 0, 0, 0))
        assert devices((await next_event(first))[1]) == {"E0001": 7.0}
        assert devices((await next_event(second))[1], "records") == {"E0001": 7.0}
        first.close()
        second.close()
        await until(lambda: not shop.feed.watched)


async def test_stream_carries_every_record_in_order(shop: Shop, client: aiohttp.ClientSession) -> None:
    """Of one machine where it is named, also out of blocks too large for one event."""
    async with client.get("/api/v1/stream?device=E0001") as answer:
        await until(lambda: shop.feed.watched)
        count = 2 * events.ROWS_IN_EVENT + 5
        shop.send(b"".join(record("E0001", n, 0, 0, 0, 0) + record("E0002") for n in range(count)))
        seen: list[object] = []
        while len(seen) < count:
            name, event = await next_event(answer)
            assert (name, event["missed"]) == ("records", 0)
            rows = msgspec.convert(event["records"], list[dict[str, object]])
            assert {row["device_id"] for row in rows} == {"E0001"}
            seen += [row["spindle_temperature_c"] for row in rows]
        assert seen == [float(n) for n in range(count)]


async def test_a_stream_that_is_not_read_in_time_is_told_how_many_it_missed(
    shop: Shop, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen plus missed is all that was sent, also where little may wait."""
    monkeypatch.setattr("storage.live.QUEUED_BYTES", 4096)
    async with client.get("/api/v1/stream") as answer:
        await until(lambda: shop.feed.watched)
        for _ in range(200):
            shop.send(record("E0001") * 3)
        seen = missed = 0
        while seen + missed < 600:
            _, event = await next_event(answer)
            seen += len(msgspec.convert(event["records"], list[object]))
            missed += msgspec.convert(event["missed"], int)
        assert seen + missed == 600
        assert missed > 0


@pytest.mark.fault
async def test_a_browser_that_never_reads_costs_nobody_and_is_closed(shop: Shop) -> None:
    """Others get every event meanwhile; what waits for it is bounded; the deadline closes it."""
    limits = HttpLimits(stall_timeout_s=1.0)
    async with shop.serve(limits) as address, aiohttp.ClientSession(address.url) as session:
        async with session.get("/api/v1/live") as reader:
            await until(lambda: shop.feed.watched)
            with deaf_client(address.port, "/api/v1/stream") as deaf:
                await until(lambda: len(shop.feed._watchers) == 2)
                seen = 0
                while len(shop.feed._watchers) == 2:
                    seen += 1
                    shop.send(b"".join(record(f"E{n:04}", seen, 0, 0, 0, 0) for n in range(2_000)))
                    _, event = await next_event(reader)
                    assert devices(event)["E0000"] == seen
                taken = 0
                while piece := await _receive(deaf):
                    taken += len(piece)
                assert taken < 64 << 20
        assert seen > 1


@pytest.mark.fault
async def test_an_api_client_that_never_reads_is_closed(shop: Shop) -> None:
    """It gets what fitted into the sockets, the others their answers."""
    for second in range(3600):
        shop.send(record("E0001") * 10, at=STAMP_MS + 1000 * second)
    path = "/api/v1/devices/E0001/readings?limit=50000"
    async with (
        shop.serve(HttpLimits(stall_timeout_s=1.0)) as address,
        aiohttp.ClientSession(address.url) as session,
    ):
        async with session.get(path) as answer:
            whole = len(await answer.read())
        with deaf_client(address.port, path) as deaf:
            await until(lambda: shop.cuts() == {Cut.NOT_TAKEN: 1.0})
            taken = 0
            while piece := await _receive(deaf):
                taken += len(piece)
        assert 0 < taken < whole
        async with session.get("/healthz") as answer:
            assert answer.status == 200


async def _receive(client: socket.socket) -> bytes:
    """What is there; nothing when the server has closed, which it may do with a reset."""
    try:
        return await asyncio.get_running_loop().sock_recv(client, 1 << 16)
    except ConnectionResetError:
        return b""


def deaf_client(port: int, path: str) -> socket.socket:
    """A client that asks and then doesn't read."""
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", port))
    deaf.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    deaf.setblocking(False)
    return deaf


async def test_a_quiet_stream_shows_that_it_lives(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comments, which no program takes for events."""
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.01)
    async with client.get("/api/v1/live") as answer:
        assert await answer.content.readuntil(b"\n\n") == b"retry: 2000\n\n"
        assert await answer.content.readuntil(b"\n\n") == b": alive\n\n"
        assert await answer.content.readuntil(b"\n\n") == b": alive\n\n"


async def test_ever_new_machines_do_not_fill_the_memory(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The board drops those that were silent longest."""
    monkeypatch.setattr("web.board.MAX_DEVICES", 10)
    board = Board(shop.feed)
    frames = board.frames()
    upcoming = asyncio.ensure_future(anext(frames))
    await until(lambda: shop.feed.watched)
    shop.send(b"".join(record(f"E{n}") for n in range(100)), at=STAMP_MS)
    frame = msgspec.json.decode(await upcoming, type=dict[str, object])
    assert set(devices(frame)) == {f"E{n}" for n in range(90, 100)}
    await frames.aclose()


@pytest.mark.parametrize("path", ["live", "stream", "devices/E0001/readings", "devices/E0001/trend"])
async def test_strangers_hold_no_place_of_those_who_may_ask(
    desk: Desk, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are refused before one is looked for, so it does not matter how slowly they read that."""
    monkeypatch.setattr("web.slots.PATIENCE_S", 0.01)
    for name in ("web.events.MAX_LIVE", "web.events.MAX_STREAMS", "web.telemetry.LARGE_ANSWERS"):
        monkeypatch.setattr(name, 0)
    await desk.counter.add_user("Operator", "operator", password=PASSWORD)
    async with desk.open():
        assert (await desk.ask("GET", f"/api/v1/{path}")).status == 401
        assert (await desk.ask("GET", f"/api/v1/{path}", await desk.token("Operator"))).status == 503


async def test_more_record_streams_than_there_may_be_are_refused(
    shop: Shop, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 503, while those that are there go on."""
    monkeypatch.setattr("web.slots.PATIENCE_S", 0.01)
    streams = [await client.get("/api/v1/stream") for _ in range(events.MAX_STREAMS)]
    async with client.get("/api/v1/stream") as refused:
        assert (refused.status, refused.content_type) == (503, "application/problem+json")
    streams.pop().close()
    await until(lambda: len(shop.feed._watchers) == events.MAX_STREAMS - 1)
    async with client.get("/api/v1/stream") as taken:
        assert taken.status == 200
    for stream in streams:
        stream.close()
