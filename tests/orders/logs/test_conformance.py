"""What every log has to do, whatever keeps it."""

from itertools import product
from random import Random
from uuid import UUID

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from orders.logs.base import Level, LogPage, LogPlace, LogQuery, LogRow, LogStore
from orders.logs.handler import LogHandler
from orders.logs.rules import LOOKED_AT, fits, place_of
from orders.settings import LogSettings
from tests.orders.logs.building import ALL, EVER, HOUR_MS, NOON, FakeClock, newest_first, pages, row, rows

LEVELS = list(Level)


def some_rows(count: int, seed: int, *, apart_ms: int) -> list[LogRow]:
    """Rows of all kinds within so many milliseconds, many in the same one; the same ones each time."""
    chance = Random(seed)  # noqa: S311  # no secret depends on it
    return [
        row(
            NOON + chance.randrange(apart_ms) // 1_000 * 1_000,
            level=chance.choice(LEVELS),
            user_id=chance.choice(["Factory_model_customer", "other", ""]),
            component=chance.choice(["Authentication", "CustomerOrder"]),
            message=chance.choice(["Connection attempt failed", "Order of 40 Base 40mm", "%_"]),
            id_=UUID(int=chance.getrandbits(128), version=4),
            reason=chance.choice(["Invalid credentials", "none"]),
        )
        for _ in range(count)
    ]


async def test_a_row_comes_back_as_it_was(store: LogStore) -> None:
    """Every column, with texts that databases may take for something else."""
    odd = "'\"\\ \x00 % _ é 漢 🏭 \u202e {} $1 ?"
    written = [
        row(NOON, level=Level.FATAL, user_id=odd, component=odd, message=odd, reason=odd, empty=""),
        replace(row(NOON - 1, user_id="", component="", message=""), source_file="", source_line=2**31 - 1),
    ]
    await store.append(written)
    assert await rows(store) == written


async def test_nothing_is_found_in_an_empty_log(store: LogStore) -> None:
    assert await store.query(ALL, 10) == LogPage([], None)
    await store.append([])
    assert await store.query(ALL, 10) == LogPage([], None)


@pytest.mark.parametrize("limit", [1, 7, 60, 1_000])
async def test_pages_join(store: LogStore, limit: int) -> None:
    """The newest first by (timestamp, id), over levels and hours, whatever the length of a page."""
    written = some_rows(60, limit, apart_ms=5 * HOUR_MS)
    await store.append(written)
    assert await rows(store, limit=limit) == newest_first(written)


async def test_rows_of_one_millisecond_join_too(store: LogStore) -> None:
    """Their ids tell them apart, also where a page ends among them."""
    written = [row(NOON, level=LEVELS[place % 4]) for place in range(25)]
    await store.append(written)
    assert await rows(store, limit=4) == newest_first(written)


async def test_a_row_that_is_there_is_not_written_twice(store: LogStore) -> None:
    """A batch whose answer got lost is written again."""
    written = [row(NOON), row(NOON + 1), row(NOON + 2)]
    await store.append(written[:2])
    await store.append(written)
    await store.append([written[0], written[0]])
    assert await rows(store) == newest_first(written)


async def test_a_range_has_its_start_and_not_its_end(store: LogStore) -> None:
    """Also where it ends or begins with an hour, and where it is no range at all."""
    written = [row(NOON + at) for at in (-1, 0, 1, HOUR_MS - 1, HOUR_MS, HOUR_MS + 1)]
    await store.append(written)
    for start, end in [
        (NOON, NOON + HOUR_MS),
        (NOON + 1, NOON + HOUR_MS + 1),
        (NOON - 1, NOON),
        (NOON, NOON),
        (NOON + 1, NOON),
        (-(1 << 200), 1 << 200),
    ]:
        expected = [row for row in newest_first(written) if start <= row.timestamp < end]
        assert await rows(store, LogQuery(start=start, end=end)) == expected


async def test_every_combination_of_filters(store: LogStore) -> None:
    """They narrow together; a page begins behind the place that is named."""
    written = newest_first(some_rows(80, 8, apart_ms=3 * HOUR_MS))
    await store.append(written)
    wanted = product(
        [None, Level.INFO, Level.FATAL],
        [None, "other", ""],
        [None, "CustomerOrder"],
        [None, "invalid CREDENTIALS", "%_"],
        [None, place_of(written[20])],
        [(0, EVER), (NOON + HOUR_MS // 2, NOON + 2 * HOUR_MS)],
    )
    for level, user_id, component, text, before, (start, end) in wanted:
        query = LogQuery(
            start=start, end=end, level=level, user_id=user_id, component=component, text=text, before=before
        )
        expected = [
            row
            for row in written
            if fits(row, query)
            and start <= row.timestamp < end
            and (before is None or place_of(row) < before)
        ]
        assert await rows(store, query, limit=1_000) == expected, query


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("BASE 40mm", True),
        ("", True),
        ("invalid", True),
        ("reason", False),
        ("Base_40mm", False),
        ("Base%40mm", False),
        ("100%", True),
        ("_x_", True),
        ("straße", True),
        ("STRAßE", True),
        ("STRASSE", False),
        ("École", True),
        ("école", False),
        ("ÉCOLE", True),
        ("K", True),
        ("\u212a", False),
        ("40mm Invalid", False),
        ("\ud800", False),
    ],
)
async def test_text_is_found_whatever_the_case_of_ascii(store: LogStore, text: str, *, found: bool) -> None:
    """In the message or a value; other letters have to be the same, and nothing is a wildcard."""
    written = row(
        message="Order of 40 Base 40mm: 100%, _x_, Straße, École, Kühlung", reason="Invalid credentials"
    )
    await store.append([written])
    assert await rows(store, replace(ALL, text=text)) == [written] * found


async def test_a_page_looks_at_a_bounded_number_of_rows(store: LogStore) -> None:
    """In one hour, however long the search; the pages lead to the row that is far behind."""
    sought = row(NOON, user_id="sought")
    await store.append([sought])
    others = [row(NOON + 1 + place) for place in range(LOOKED_AT + 500)]
    for first in range(0, len(others), 500):
        await store.append(others[first : first + 500])
    found = await pages(store, replace(ALL, user_id="sought"), limit=1)
    assert [page.rows for page in found if page.rows] == [[sought]]
    assert not found[0].rows
    assert found[0].next is not None
    assert await rows(store, limit=700) == [*reversed(others), sought]


async def test_a_search_goes_over_many_hours(store: LogStore) -> None:
    """Also where each has a row or two only."""
    written = [row(NOON - place * HOUR_MS, level=LEVELS[place % 2]) for place in range(250)]
    sought = row(NOON - 250 * HOUR_MS, message="sought", level=Level.ERROR)
    await store.append([*written, sought])
    assert await rows(store, replace(ALL, text="SOUGHT")) == [sought]
    assert await rows(store, replace(ALL, level=Level.WARN)) == written[1::2]
    assert await rows(store) == [*written, sought]


async def test_rare_levels_are_found_at_once(store: LogStore) -> None:
    """Behind more rows of other levels than a page looks at."""
    rare = row(NOON, level=Level.FATAL)
    others = [row(NOON + 1 + place) for place in range(LOOKED_AT + 1)]
    for first in range(0, len(others), 500):
        await store.append(others[first : first + 500])
    await store.append([rare])
    page = await store.query(replace(ALL, level=Level.FATAL), 10)
    assert page == LogPage([rare], None)


async def test_a_place_that_is_no_rows_will_do(store: LogStore) -> None:
    """Places come from outside."""
    written = [row(NOON), row(NOON + 1)]
    await store.append(written)
    for timestamp, expected in [(1 << 100, [1, 0]), (NOON + 1, [0]), (0, []), (-(1 << 100), [])]:
        query = replace(ALL, before=LogPlace(timestamp, UUID(int=0)))
        assert await rows(store, query) == [written[place] for place in expected]


async def test_what_a_handler_says_is_read_in_its_order(store: LogStore) -> None:
    """Also what it said within one millisecond."""
    handler = LogHandler(store, LogSettings(), CollectorRegistry(), clock=FakeClock().clock, close_s=60.0)
    log = handler.logger(component="CustomerOrder", file="AmpFacadeAPI")
    for number in range(600):
        say = log.warning if number % 3 else log.info
        say("said", number=number)
    await handler.close()
    found = await rows(store, limit=70)
    assert [row.additional_info["number"] for row in reversed(found)] == list(map(str, range(600)))
