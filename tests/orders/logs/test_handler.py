"""LogHandler: nobody who acts waits for the log, and what it loses it counts."""

import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from unittest.mock import patch

import pytest
import structlog
from prometheus_client import CollectorRegistry

from orders.logs import handler as module
from orders.logs.base import Level
from orders.logs.handler import LogHandler
from orders.logs.sqlite import SqliteLogStore
from orders.settings import KeepDays, LogSettings
from storage.errors import SchemaError, StorageError, StoreUnavailableError
from tests.orders.logs.building import NOON, row, rows, until
from tests.orders.logs.desk import Desk

DAY_S = 86_400.0


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    desk.handler.start()
    yield desk
    await desk.handler.close()


@pytest.fixture
async def narrow() -> AsyncIterator[Desk]:
    """One with room for ten rows, whose store does not answer yet."""
    desk = Desk(max_waiting=10)
    desk.store.answers.clear()
    desk.handler.start()
    yield desk
    await desk.handler.close()


async def test_rows_are_written_together(desk: Desk) -> None:
    """What comes while a write is under way shares the next ones, of 500 rows at most, in its order."""
    desk.store.answers.clear()
    desk.log.info("0")
    await until(lambda: desk.store.asked == 1)
    for number in range(1, 1_201):
        desk.log.info(str(number))
    assert desk.handler.statistics.waiting == 1_201
    desk.store.answers.set()
    await desk.written(1_201)
    assert desk.store.batches == [1, 500, 500, 200]
    assert await desk.messages() == list(map(str, range(1_201)))


async def test_what_was_said_before_the_start_is_written() -> None:
    desk = Desk()
    desk.log.info("early")
    desk.handler.start()
    await desk.written(1)
    await desk.handler.close()


@pytest.mark.parametrize("error", [StoreUnavailableError("gone"), SchemaError("of another version")])
async def test_nothing_is_lost_while_the_store_is_away(desk: Desk, error: StorageError) -> None:
    """It is tried again with rests that grow; said once when it goes and once when it is back."""
    with structlog.testing.capture_logs() as lines:
        desk.store.error = error
        desk.log.info("first")
        for tries in range(1, 10):
            await until(lambda tries=tries: len(_rests(desk)) == tries)  # type: ignore[misc]
            desk.log.info(str(tries))
            desk.clock.move(_rests(desk)[-1])
        await until(lambda: len(_rests(desk)) == 10)
        assert desk.handler.statistics.store_trouble == str(error)
        assert desk.handler.statistics.waiting == 10
        assert await desk.messages() == []
        desk.store.error = None
        desk.clock.move(10.0)
        await desk.written(10)
    assert _rests(desk) == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0, 10.0]
    assert await desk.messages() == ["first", *map(str, range(1, 10))]
    assert desk.handler.statistics == module.LogStatistics(written=10, waiting=0, lost=0, store_trouble="")
    assert [line["event"] for line in lines] == ["log_store_away", "log_store_back"]


def _rests(desk: Desk) -> list[float]:
    """Those between two tries."""
    return [rest for rest in desk.clock.rests if rest < 3_600]


async def test_what_there_is_no_room_for_is_counted_and_told(narrow: Desk) -> None:
    """By a row, once there is room; the losses since are told by another."""
    for number in range(13):
        narrow.log.info(str(number))
    assert narrow.handler.statistics.lost == 3
    assert narrow.handler.statistics.waiting == 10
    assert narrow.metric("lost_total") == 3
    assert narrow.metric("waiting") == 10
    narrow.clock.move(1)
    narrow.store.answers.set()
    await narrow.written(11)
    *_, told = reversed(await rows(narrow.store))
    assert (told.level, told.message, told.additional_info) == (
        Level.WARN,
        "Log rows were lost",
        {"lost": "3"},
    )
    assert (told.source_component, told.source_file) == ("LogHandler", "LogHandler")
    assert narrow.handler.statistics.waiting == 0
    narrow.log.info("again")
    await narrow.written(12)
    assert len(await narrow.messages()) == 12


async def test_what_is_under_way_takes_room_too(narrow: Desk) -> None:
    """Or the limit would be none."""
    narrow.log.info("0")
    await until(lambda: narrow.store.asked == 1)
    for number in range(10):
        narrow.log.info(str(number))
    assert narrow.handler.statistics.lost == 1


async def test_errors_are_said_at_once(narrow: Desk) -> None:
    """On standard error, though the store does not answer and there is no room; routine is not."""
    with structlog.testing.capture_logs() as lines:
        for _ in range(10):
            narrow.log.info("routine")
        narrow.log.warning("odd")
        narrow.log.error("slow", user_id="one", reason="none")
        narrow.log.critical("over")
    assert [(line["log_level"], line["event"], line["message"]) for line in lines] == [
        ("error", "log_row", "slow"),
        ("critical", "log_row", "over"),
    ]
    assert (lines[0]["user_id"], lines[0]["additional_info"]) == ("one", {"reason": "none"})
    assert (lines[0]["component"], lines[0]["file"]) == ("CustomerOrder", "AmpFacadeAPI")


async def test_standard_error_may_be_gone(desk: Desk) -> None:
    """That costs its lines and nothing else."""

    class Closed:
        def __getattr__(self, name: str) -> Callable[..., None]:
            def say(*_: object, **__: object) -> None:
                raise ValueError(name)

            return say

    with patch.object(module, "_log", Closed()):
        desk.log.error("slow")
        desk.store.error = StoreUnavailableError("gone")
        desk.log.critical("over")
        await until(lambda: bool(_rests(desk)))
        desk.store.error = None
        desk.clock.move(1)
        await desk.written(2)
    assert desk.handler.statistics.lost == 0


async def test_rows_that_the_store_can_not_take_cost_themselves_only(desk: Desk) -> None:
    """A bug is said and counted, and does not stop the log for ever."""
    with structlog.testing.capture_logs() as lines:
        desk.store.error = ZeroDivisionError("a bug")
        desk.log.info("refused")
        await until(lambda: desk.handler.statistics.lost == 1)
        desk.store.error = None
        desk.log.info("taken")
        await desk.written(2)
    assert sorted(await desk.messages()) == ["Log rows were lost", "taken"]
    assert [(line["event"], line["rows"]) for line in lines] == [("log_rows_refused", 1)]


async def test_closing_writes_what_waits() -> None:
    """Also what waits for a store that is just back."""
    desk = Desk()
    desk.handler.start()
    desk.store.error = StoreUnavailableError("gone")
    for number in range(700):
        desk.log.info(str(number))
    await until(lambda: bool(_rests(desk)))
    desk.store.error = None
    await desk.handler.close()
    assert len(await desk.messages()) == 700
    assert desk.handler.statistics == module.LogStatistics(written=700, waiting=0, lost=0, store_trouble="")


@pytest.mark.parametrize("hangs", [True, False])
async def test_closing_ends_though_the_store_does_not_come_back(*, hangs: bool) -> None:
    """What is not written is counted and said; what comes afterwards is counted."""
    desk = Desk()
    desk.handler.start()
    desk.store.error = StoreUnavailableError("gone")
    if hangs:
        desk.store.answers.clear()
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            desk.log.info("unwritten")
        await desk.handler.close()
    assert desk.handler.statistics.lost == 3
    assert desk.handler.statistics.waiting == 0
    assert lines[-1]["event"] == "log_rows_lost"
    assert (lines[-1]["rows"], lines[-1]["not_written"]) == (3, 3)
    desk.log.info("late")
    assert desk.handler.statistics.lost == 4
    assert desk.metric("lost_total") == 4


async def test_old_rows_are_purged_by_the_hour(desk: Desk) -> None:
    """At the start and then each hour, in steps until there are none; an error ends nothing."""
    await until(lambda: 3_600.0 in desk.clock.rests)
    await desk.store.append([row(NOON), row(NOON + 1), row(NOON, level=Level.WARN)])
    desk.clock.move(DAY_S)
    await until(lambda: desk.clock.rests.count(3_600.0) == 2)
    assert len(await rows(desk.store)) == 3, "it is over only after a whole day"
    for error in (StoreUnavailableError("gone"), ZeroDivisionError("a bug")):
        desk.store.purge_error = error
        before = desk.clock.rests.count(3_600.0)
        with structlog.testing.capture_logs() as lines:
            desk.clock.move(3_600.0)
            await until(lambda before=before: desk.clock.rests.count(3_600.0) > before)  # type: ignore[misc]
        assert [line["event"] for line in lines] == ["log_not_purged"]
    desk.store.purge_error = None
    desk.clock.move(3_600.0)
    await until(lambda: 0.05 in desk.clock.rests)
    purges = desk.store.purges
    desk.clock.move(0.05)
    await until(lambda: desk.store.purges == purges + 1)
    assert [row.level for row in await rows(desk.store)] == [Level.WARN]


async def test_what_is_written_is_counted_by_level(desk: Desk) -> None:
    """For Prometheus, each level from 0 on."""
    assert desk.metric("rows_total", level="FATAL") == 0
    with structlog.testing.capture_logs():
        desk.log.info("routine")
        desk.log.info("routine")
        desk.log.error("slow")
    await desk.written(3)
    assert desk.metric("rows_total", level="INFO") == 2
    assert desk.metric("rows_total", level="ERROR") == 1
    assert desk.metric("waiting") == 0


async def test_threads_may_speak(tmp_path: Path) -> None:
    """All of them at once, into a real file: no row is missing, none is there twice."""
    store = SqliteLogStore(tmp_path / "log.db", KeepDays())
    handler = LogHandler(store, LogSettings(), CollectorRegistry())
    log = handler.logger(component="CustomerOrder", file="AmpFacadeAPI")
    handler.start()

    def speak(name: int) -> None:
        for number in range(500):
            log.info("said", place=f"{name} {number}")

    threads = [threading.Thread(target=speak, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    await until(lambda: handler.statistics.written == 2_000)
    for thread in threads:
        thread.join()
    await handler.close()
    found = await rows(store)
    assert {row.additional_info["place"] for row in found} == {
        f"{a} {b}" for a in range(4) for b in range(500)
    }
    assert len(found) == 2_000
    assert handler.statistics.lost == 0
    await store.close()
