"""The telemetry API over real HTTP."""

import io
from urllib.parse import quote

import aiohttp
import msgspec
import pyarrow.csv
import pyarrow.ipc
import pytest
import structlog
from yarl import URL

from orders.sparing import Sparing
from parser.block import Closed, to_seq
from storage.errors import StoreBusyError
from storage.memory import MemoryReadingStore
from tests.web.shop import NODE, PEER, STAMP_MS, Shop, record
from web.paging import MAX_READINGS

Json = dict[str, object]
FIELDS = ["spindle_temperature_c", "spindle_speed_rpm", "coolant_flow_lpm", "power_kw", "voltage_v"]


async def get(client: aiohttp.ClientSession, path: str, status: int = 200, **headers: str) -> Json:
    """The JSON answer, of that status."""
    async with client.get(path, headers=headers) as answer:
        body = await answer.read()
        assert answer.status == status, body
        decoded = msgspec.json.decode(body, type=dict[str, object])
        assert status == 200 or answer.content_type == "application/problem+json"
        return decoded


def rows(page: Json, name: str) -> list[Json]:
    """The rows of a page."""
    return msgspec.convert(page[name], list[dict[str, object]])


async def test_latest_is_exactly_what_the_machine_sent(shop: Shop, client: aiohttp.ClientSession) -> None:
    """Values, time in RFC 3339 and number as text; not what it sent before."""
    shop.send(record("E0001", 1, 1, 1, 1, 1), at=STAMP_MS - 10)
    shop.send(record("E0001", 35.2, 8000, 2.5, 3.7, 380), at=STAMP_MS)
    assert await get(client, "/api/v1/devices/E0001/latest") == {
        "device_id": "E0001",
        "received_at": "2024-07-24T21:51:36.590Z",
        "seq": str(to_seq(NODE, 1)),
        "spindle_temperature_c": 35.2,
        "spindle_speed_rpm": 8000.0,
        "coolant_flow_lpm": 2.5,
        "power_kw": 3.7,
        "voltage_v": 380.0,
        "claimed_twice": False,
    }


async def test_a_device_that_two_connections_send_for_is_flagged(
    shop: Shop, client: aiohttp.ClientSession
) -> None:
    """For as long as they do; its readings are all there."""
    shop.send(b"E0001,1,2,3,4,5#E0002,1,2,3,4,5#")
    shop.claimed_twice.add("E0002")
    page = await get(client, "/api/v1/devices")
    flags = {row["device_id"]: row["claimed_twice"] for row in rows(page, "devices")}
    assert flags == {"E0001": False, "E0002": True}
    latest = [await get(client, f"/api/v1/devices/{device}/latest") for device in flags]
    assert [each["claimed_twice"] for each in latest] == [False, True]


async def test_devices_come_by_name_page_by_page(shop: Shop, client: aiohttp.ClientSession) -> None:
    """Each once, with when it was last seen; the link leads through all pages."""
    names = ["E0001", "E0002", "a b/c?", "z&="]
    shop.send(b"".join(record(name) for name in [*names, *names]), at=STAMP_MS)
    seen: list[object] = []
    url: object = "/api/v1/devices?limit=3"
    while isinstance(url, str):
        page = await get(client, url)
        assert {row["last_seen"] for row in rows(page, "devices")} == {"2024-07-24T21:51:36.590Z"}
        seen += [row["device_id"] for row in rows(page, "devices")]
        url = page["next"]
    assert seen == sorted(names)


@pytest.mark.parametrize("name", ["a b/c?", "50%", "%2F", "%252F", "x&y=z", "../x", "a//b"])
async def test_any_name_that_a_machine_can_have_is_reachable(shop: Shop, name: str) -> None:
    """Also with slashes, percent signs and dots, percent-encoded as any client does it."""
    shop.send(record(name), at=STAMP_MS)
    path = f"/api/v1/devices/{quote(name, safe='')}/latest"
    async with (
        shop.serve() as address,
        aiohttp.ClientSession() as client,
        client.get(URL(address.url + path, encoded=True)) as answer,
    ):
        assert (await answer.json())["device_id"] == name


async def test_readings_are_paged_newest_first_without_gap_or_overlap(
    shop: Shop, client: aiohttp.ClientSession
) -> None:
    """Also where many share one millisecond, and while new ones arrive in between."""
    for step in range(4):
        shop.send(record("E0001") * 5 + record("E0002"), at=STAMP_MS + step // 2)
    seen: list[object] = []
    url: object = "/api/v1/devices/E0001/readings?limit=3"
    while isinstance(url, str):
        page = await get(client, url)
        assert len(rows(page, "readings")) <= 3
        seen += [row["seq"] for row in rows(page, "readings")]
        url = page["next"]
        shop.send(record("E0001"), at=STAMP_MS + 100)
    expected = [row for row in range(23, -1, -1) if row % 6 != 5]
    assert seen == [str(to_seq(NODE, number)) for number in expected]


async def test_the_link_header_names_the_next_page(shop: Shop, client: aiohttp.ClientSession) -> None:
    """As RFC 8288 has it, and the same as in the body; none on the last page."""
    shop.send(record("E0001") * 3, at=STAMP_MS)
    async with client.get("/api/v1/devices/E0001/readings?limit=2") as answer:
        assert str(answer.links["next"]["url"]).endswith((await answer.json())["next"])
        after = str(answer.links["next"]["url"])
    async with client.get(after) as answer:
        assert not answer.links
        assert len((await answer.json())["readings"]) == 1


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (str(STAMP_MS), str(STAMP_MS + 1)),
        ("2024-07-24T21:51:36.590Z", "2024-07-24T21:51:36.591Z"),
        ("2024-07-24T23:51:36.590+02:00", "2024-07-24T21:51:36.5901Z"),
        ("2024-07-24T21:51:36.5891z", "2024-07-24 21:51:36.590999Z"),
    ],
)
async def test_a_range_holds_its_start_and_not_its_end(
    shop: Shop, client: aiohttp.ClientSession, start: str, end: str
) -> None:
    """Whichever way the times are written, with the plus sign encoded or not."""
    for at in range(STAMP_MS - 1, STAMP_MS + 2):
        shop.send(record("E0001", float(at - STAMP_MS), 0, 0, 0, 0), at=at)
    for plus in ("+", "%2B"):
        query = f"?start={start}&end={end}".replace("+", plus)
        page = await get(client, f"/api/v1/devices/E0001/readings{query}")
        assert [row["spindle_temperature_c"] for row in rows(page, "readings")] == [0.0]


async def test_csv_and_arrow_say_the_same_as_json(shop: Shop, client: aiohttp.ClientSession) -> None:
    """All rows and values, numbers as numbers in Arrow, number and time as text in CSV."""
    shop.send(record("E0001", 0.1, -1e-7, 1e22, 3.7, 380) + record("E0001"), at=STAMP_MS)
    path = "/api/v1/devices/E0001/readings"
    expected = rows(await get(client, path), "readings")
    async with client.get(path, headers={"Accept": "text/csv"}) as answer:
        assert answer.content_type == "text/csv"
        text = await answer.read()
    as_text = {name: pyarrow.string() for name in ("device_id", "received_at", "seq")}
    options = pyarrow.csv.ConvertOptions(column_types=as_text)
    assert pyarrow.csv.read_csv(io.BytesIO(text), convert_options=options).to_pylist() == expected
    media_type = "application/vnd.apache.arrow.stream"
    async with client.get(path, headers={"Accept": media_type}) as answer:
        assert answer.content_type == media_type
        table = pyarrow.ipc.open_stream(await answer.read()).read_all()
    assert table.column("seq").type == pyarrow.int64()
    assert [str(seq) for seq in table.column("seq").to_pylist()] == [row["seq"] for row in expected]
    assert {at.timestamp() for at in table.column("received_at").to_pylist()} == {STAMP_MS / 1000}
    for name in FIELDS:
        assert table.column(name).to_pylist() == [row[name] for row in expected]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("text/*", "text/csv"),
        ("text/csv;q=0.1, application/json", "application/json"),
        ("text/html, text/csv;q=0.5", "text/csv"),
    ],
)
async def test_the_best_accepted_format_is_sent(
    shop: Shop, client: aiohttp.ClientSession, accept: str, media_type: str
) -> None:
    """Wildcards and weights count."""
    shop.send(record("E0001"), at=STAMP_MS)
    async with client.get("/api/v1/devices/E0001/readings", headers={"Accept": accept}) as answer:
        assert answer.content_type == media_type
        assert "Accept" in answer.headers["Vary"]


@pytest.mark.parametrize("accept", ["text/html", "image/png, text/html", "nonsense", ";;,/,*"])
async def test_an_unknown_format_is_406(shop: Shop, client: aiohttp.ClientSession, accept: str) -> None:
    """And the problem says what there is."""
    shop.send(record("E0001"), at=STAMP_MS)
    problem = await get(client, "/api/v1/devices/E0001/readings", 406, Accept=accept)
    assert "text/csv" in str(problem["detail"])


@pytest.mark.parametrize(
    ("path", "status", "parameter"),
    [
        ("devices/E0009/latest", 404, "device_id"),
        ("devices/E0009/readings", 404, "device_id"),
        ("devices/E0009/trend", 404, "device_id"),
        ("devices/%C3%A9/latest", 404, "device_id"),
        ("devices/%FF%FE/latest", 404, "device_id"),
        ("devices/a%00b/latest", 404, "device_id"),
        (f"devices/{'x' * 65}/latest", 404, "device_id"),
        ("devices/E0001/readings?start=yesterday", 400, "start"),
        ("devices/E0001/readings?start=2024-07-24T21:51:36", 400, "start"),
        ("devices/E0001/readings?end=2024-13-24T21:51:36Z", 400, "end"),
        ("devices/E0001/readings?end=%00", 400, "end"),
        ("devices/E0001/readings?start=2&end=1", 422, "start"),
        ("devices/E0001/readings?limit=0", 400, "limit"),
        (f"devices/E0001/readings?limit={MAX_READINGS + 1}", 400, "limit"),
        ("devices/E0001/readings?limit=ten", 400, "limit"),
        ("devices/E0001/readings?limit=%s%n{0}", 400, "limit"),
        ("devices/E0001/readings?cursor=%C3%A9", 400, "cursor"),
        ("devices/E0001/readings?cursor=AAAA", 400, "cursor"),
        ("devices/E0001/trend?steps=0", 400, "steps"),
        ("devices?limit=1001", 400, "limit"),
        ("rejects?connection=one", 400, "connection"),
        ("rejects?cursor=x", 400, "cursor"),
        ("ledger?start=0", 422, "start"),
    ],
)
async def test_a_bad_request_gets_a_problem_that_names_the_parameter(
    shop: Shop, client: aiohttp.ClientSession, path: str, status: int, parameter: str
) -> None:
    """Never a 500."""
    shop.send(record("E0001"), at=STAMP_MS)
    problem = await get(client, f"/api/v1/{path}", status)
    assert (problem["status"], problem["parameter"]) == (status, parameter)


async def test_a_cursor_of_another_list_is_refused(shop: Shop, client: aiohttp.ClientSession) -> None:
    """It would otherwise begin anywhere."""
    shop.send(record("E0001") + record("E0002"), at=STAMP_MS)
    cursor = str((await get(client, "/api/v1/devices?limit=1"))["next"]).rpartition("cursor=")[2]
    problem = await get(client, f"/api/v1/devices/E0001/readings?cursor={cursor}", 400)
    assert problem["parameter"] == "cursor"


async def test_unknown_paths_and_methods_get_problems(client: aiohttp.ClientSession) -> None:
    """404 and 405, in the same form."""
    assert (await get(client, "/api/v1/nonsense", 404))["title"] == "Not Found"
    async with client.post("/api/v1/devices") as answer:
        assert (answer.status, answer.content_type) == (405, "application/problem+json")
        assert "GET" in answer.headers["Allow"]


class BusyStore(MemoryReadingStore):
    """A store whose database is held by another program."""

    async def latest(self, device_id: str) -> None:
        """Not now."""
        raise StoreBusyError(f"secret place of {device_id}")


async def test_a_store_that_can_not_be_read_is_503_and_tells_nothing_of_its_inside(shop: Shop) -> None:
    """With when to try again."""
    shop.store = BusyStore(shop.tables)
    async with (
        shop.serve() as address,
        aiohttp.ClientSession(address.url) as client,
        client.get("/api/v1/devices/E0001/latest") as answer,
    ):
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        assert "secret" not in await answer.text()


class FaultyStore(MemoryReadingStore):
    """A store with a mistake in it."""

    async def latest(self, device_id: str) -> None:
        """It fails as no store should."""
        raise ZeroDivisionError(f"secret place of {device_id}")


async def test_a_mistake_of_ours_is_500_is_logged_and_tells_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked stands in the log as a value of its own, never as its format."""
    monkeypatch.setattr("web.problems._failures", Sparing())
    shop.store = FaultyStore(shop.tables)
    with structlog.testing.capture_logs() as logs:
        async with (
            shop.serve() as address,
            aiohttp.ClientSession(address.url) as client,
            client.get("/api/v1/devices/%25s%25n/latest") as answer,
        ):
            assert (answer.status, answer.content_type) == (500, "application/problem+json")
            assert "secret" not in await answer.text()
    (entry,) = [entry for entry in logs if entry["event"] == "request_failed"]
    assert entry["path"] == "/api/v1/devices/%s%n/latest"
    assert isinstance(entry["exc_info"], ZeroDivisionError)


@pytest.mark.parametrize(
    ("store", "status", "event", "error"),
    [(BusyStore, 503, "store_unavailable", "error"), (FaultyStore, 500, "request_failed", "exc_info")],
)
async def test_what_fails_each_time_fills_no_log(
    shop: Shop,
    store: type[MemoryReadingStore],
    status: int,
    event: str,
    error: str,
    *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sixty lines a minute, and two minutes may share the time that this takes."""
    for name in ("_sparing", "_failures"):
        monkeypatch.setattr(f"web.problems.{name}", Sparing())
    shop.store = store(shop.tables)
    async with shop.serve() as address, aiohttp.ClientSession(address.url) as client:
        with structlog.testing.capture_logs() as logs:
            for _ in range(150):
                async with client.get("/api/v1/devices/E0001/latest") as answer:
                    assert answer.status == status
    told = [entry for entry in logs if entry["event"] == event]
    assert 0 < len(told) <= 120
    assert all("secret place" in str(entry[error]) for entry in told)


async def test_a_trend_keeps_every_peak(shop: Shop, client: aiohttp.ClientSession) -> None:
    """Lowest and highest of each step are among the readings; steps without any are left out."""
    for step in range(100):
        peak = 1000.0 if step == 41 else float(step)
        shop.send(record("E0001", peak, 8000, 2.5, 3.7, 1e308), at=STAMP_MS + step)
    path = f"/api/v1/devices/E0001/trend?start={STAMP_MS}&end={STAMP_MS + 200}&steps=20"
    trend = await get(client, path)
    bands = msgspec.convert(trend["fields"], dict[str, dict[str, list[float]]])
    assert trend["at"] == [STAMP_MS + 5.0 + 10 * step for step in range(10)]
    temperature = bands["spindle_temperature_c"]
    assert temperature["high"] == [9, 19, 29, 39, 1000, 59, 69, 79, 89, 99]
    assert temperature["low"] == [10 * step for step in range(10)]
    assert temperature["mean"][0] == pytest.approx(4.5)
    assert bands["voltage_v"]["mean"] == pytest.approx([1e308] * 10)


async def test_rejects_show_their_bytes_and_where_they_came_from(
    shop: Shop, client: aiohttp.ClientSession
) -> None:
    """Exactly, and readable; by machine, by connection, page by page."""
    shop.send(b"\x00<b>\\\xff#" + record("E0001") + b"E0001,nan,1,2,3,4#" + b"E0002,1#", at=STAMP_MS)
    page = await get(client, "/api/v1/rejects")
    assert [row["reason"] for row in rows(page, "rejects")] == ["fields", "number", "fields"]
    oldest = rows(page, "rejects")[-1]
    assert oldest["text"] == r"\x00<b>\\\xff"
    assert oldest["raw"] == "ADxiPlz/"
    assert (oldest["peer"], oldest["place"], oldest["connection"]) == (PEER, 0, "1")
    of_one = rows(await get(client, "/api/v1/rejects?device=E0001"), "rejects")
    assert [row["field"] for row in of_one] == ["spindle_temperature_c"]
    assert rows(await get(client, "/api/v1/rejects?connection=2"), "rejects") == []
    second = await get(client, str((await get(client, "/api/v1/rejects?limit=2"))["next"]))
    assert rows(second, "rejects") == [oldest]


async def test_connections_show_counters_and_why_they_closed(
    shop: Shop, client: aiohttp.ClientSession
) -> None:
    """An open one has no closing."""
    shop.send(record("E0001") * 2 + b"#x#", at=STAMP_MS)
    page = await get(client, "/api/v1/connections")
    (row,) = rows(page, "connections")
    assert (row["stored"], row["rejected"], row["empty"], row["closed_at"]) == (2, 1, 1, None)
    shop.send(b"", events=[Closed(1, "reset", 99)], at=STAMP_MS + 1000)
    (row,) = rows(await get(client, "/api/v1/connections"), "connections")
    assert (row["why"], row["closed_at"], row["bytes"]) == ("reset", "2024-07-24T21:51:37.590Z", 99)


async def test_the_ledger_shows_each_minute(shop: Shop, client: aiohttp.ClientSession) -> None:
    """First and last number, and what became of all in between."""
    shop.send(record("E0001") * 2 + b"#x#", at=STAMP_MS)
    query = f"start={STAMP_MS - 60_000}&end={STAMP_MS}"
    (row,) = rows(await get(client, f"/api/v1/ledger?{query}"), "minutes")
    assert row["minute"] == "2024-07-24T21:51:00.000Z"
    assert (row["first_seq"], row["last_seq"]) == (str(to_seq(NODE, 0)), str(to_seq(NODE, 3)))
    assert (row["stored"], row["rejected"], row["empty"]) == (2, 1, 1)


async def test_an_hour_at_10_hz_fits_on_one_page(shop: Shop, client: aiohttp.ClientSession) -> None:
    """36 000 readings, all of them, in each format."""
    for second in range(3600):
        shop.send(record("E0001") * 10, at=STAMP_MS + 1000 * second)
    path = f"/api/v1/devices/E0001/readings?limit={MAX_READINGS}"
    page = await get(client, path)
    assert len(rows(page, "readings")) == 36_000
    assert page["next"] is None
    async with client.get(path, headers={"Accept": "text/csv"}) as answer:
        assert (await answer.text()).count("\n") == 36_001
