"""The page of all machines."""

import time
from functools import partial

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.chromium import DESKTOP, PHONE, Scheme, look
from tests.browser.floor import Floor, serve_floor
from tests.browser.page import Page
from tests.web.shop import record

pytestmark = pytest.mark.browser

CLAIMED = "Sent by two connections"


def number(field: str, tile: int = 1) -> str:
    """Where a tile shows a field's value."""
    return f".tile:nth-child({tile}) [data-field={field}] .number"


def test_a_record_shows_up_in_its_tile_without_a_reload(floor: Floor, page: Page) -> None:
    """Its value, on a page that was opened before; then the next one's."""
    floor.send(record("E0001", 35.2, 8000, 2.5, 3.7, 380))
    page.open("/")
    page.until_text(number("spindle_temperature_c"), "35.2")
    page.run("window.same = true")
    floor.send(record("E0001", 36.9, 7500, 2.6, 4.25, 381.5))
    page.until_text(number("spindle_temperature_c"), "36.9")
    assert page.text(number("spindle_speed_rpm")) == "7500"
    assert page.text(number("coolant_flow_lpm")) == "2.6"
    assert page.text(number("power_kw")) == "4.25"
    assert page.text(number("voltage_v")) == "381.5"
    assert page.run("return window.same")


def test_a_new_machine_gets_a_tile_where_its_name_belongs(floor: Floor, page: Page) -> None:
    """Without a reload, also the first of all; until then the page says what to do."""
    page.open("/")
    page.until_text("#empty h2", "No machine has sent yet")
    assert "headrace simulate" in page.text("#empty")
    page.until(lambda: floor.shop.feed.watched)
    for count, name in enumerate(["E10", "E2", "<b>&"], 1):
        floor.send(record(name))
        page.until(partial(_has_tiles, page, count))
    assert [tile.text for tile in page.all(".tile h2")] == ["<b>&", "E2", "E10"]
    assert not page.find("#empty").is_displayed()


def _has_tiles(page: Page, count: int) -> bool:
    return len(page.all(".tile")) == count


def test_a_machine_that_falls_silent_is_told_in_words(floor: Floor, page: Page) -> None:
    """With the age of its last record, that ticks; and a live one is live."""
    now = time.time_ns() // 1_000_000
    floor.send(record("E0001"), at=now - 90_000)
    page.open("/")
    page.until_text(".tile:nth-child(1) .word", "Silent")
    floor.send(record("E0002"))
    page.until(partial(_has_tiles, page, 2))
    assert page.text(".tile:nth-child(1) .age") == "1 min ago"
    assert page.text(".tile:nth-child(2) .word") == "Live"
    age = page.text(".tile:nth-child(2) .age")
    page.until(lambda: page.text(".tile:nth-child(2) .age") != age)
    page.until_text(".tile:nth-child(2) .word", "Silent")
    assert page.text("#live-count") == "0"


def test_a_machine_that_two_connections_send_for_is_told_in_words(floor: Floor, page: Page) -> None:
    """From the beginning, or as soon as it is known, and until it is over; also while nothing comes."""
    floor.send(record("E0001") + record("E0002"), at=time.time_ns() // 1_000_000 - 90_000)
    floor.do(lambda: floor.shop.claimed_twice.add("E0001"))
    page.open("/")
    page.until_text(".tile:nth-child(1) .claimed", CLAIMED)
    assert not page.find(".tile:nth-child(2) .claimed").is_displayed()
    page.until(lambda: floor.shop.feed.watched)
    floor.do(lambda: floor.shop.claimed_twice.add("E0002"))
    page.until_text(".tile:nth-child(2) .claimed", CLAIMED)
    floor.do(floor.shop.claimed_twice.clear)
    page.until(lambda: not any(each.is_displayed() for each in page.all(".tile .claimed")))


def test_the_trend_has_a_past_and_moves(floor: Floor, page: Page) -> None:
    """What was sent before the page was opened is in it, and what comes is added."""
    now = time.time_ns() // 1_000_000
    for second in range(60, 0, -1):
        floor.send(record("E0001", 30 + second % 7, 8000, 2.5, second % 5, 380), at=now - 1000 * second)
    page.open("/")
    shape = "return document.querySelector('.tile .trend path')?.getAttribute('d') ?? ''"
    page.until(lambda: str(page.run(shape)).count("L") > 20)
    before = page.run(shape)
    floor.send(record("E0001", 30, 8000, 2.5, 9, 380))
    page.until(lambda: page.run(shape) != before)


def test_the_rate_counts_the_records(floor: Floor, page: Page) -> None:
    """Records per second of all machines together."""
    floor.send(record("E0001"))
    page.open("/")
    page.until(lambda: floor.shop.feed.watched)

    def busy() -> bool:
        floor.send(record("E0001") * 10)
        return page.text("#rate") not in {"", "0"}

    page.until(busy)
    page.until_text("#rate", "0")


def test_a_thousand_machines_can_be_searched(floor: Floor, page: Page) -> None:
    """All are there, found by name, and values still arrive in time."""
    names = [f"E{n:04}" for n in range(1000)]
    floor.send(b"".join(map(record, names)))
    page.open("/")
    page.until_text("#machines-count", "1\u202f000")
    page.find("#find").send_keys("e099")
    page.until_text("#shown", "10 of 1\u202f000 shown")
    assert [tile.text for tile in page.all(".tile:not([hidden]) h2")] == names[990:]
    began = time.monotonic()
    floor.send(b"".join(record(name, 77.7, 1, 1, 1, 1) for name in names))
    page.until_text(number("spindle_temperature_c", 1000), "77.7")
    assert time.monotonic() - began < 10
    page.find("#find").send_keys("x")
    page.until_text("#shown", "No machine fits")


def test_the_highlighted_field_is_remembered(floor: Floor, page: Page) -> None:
    """The choice outlives a reload."""
    floor.send(b"".join(record(f"E{n}") for n in range(9)))
    page.open("/")
    page.until(lambda: page.find("#lead").is_displayed())
    page.find("#lead").send_keys("v")
    page.until(lambda: page.run("return document.getElementById('tiles').dataset.lead") == "voltage_v")
    page.open("/")
    page.until(lambda: page.find("#lead").get_attribute("value") == "voltage_v")
    page.run("localStorage.clear()")


def test_the_page_is_operated_with_the_keyboard_alone(floor: Floor, page: Page) -> None:
    """Focus goes through everything in order, is seen, and Enter opens a machine."""
    floor.send(b"".join(record(f"E{n}") for n in range(9)))
    page.open("/")
    page.until(lambda: page.find("#find").is_displayed())
    stops = []
    for _ in range(13):
        page.press(Keys.TAB)
        stops.append(page.focused())
        outline = "return getComputedStyle(document.activeElement.closest('.tile') ?? document.activeElement)"
        assert page.run(f"{outline}.outlineStyle") == "solid", stops
    places = ["Machines", "Connections", "Order", "Orders", "Queue", "Log"]
    expected = ["Skip to content", "Headrace", *places, "Find", "Show", "Highlight"]
    assert stops == [*expected, "E0", "E1"]
    page.press(Keys.ENTER)
    page.until_text("h1", "E1")


def test_a_lost_server_is_told_and_found_again(floor: Floor, page: Page) -> None:
    """The page says so instead of showing old values as live."""
    page.expected = ["ERR_", "Failed to load resource"]
    floor.send(record("E0001"))
    page.open("/")
    page.until_text("#link", "Connected")
    page.until_text(".tile .word", "Live")
    floor.stop()
    page.until_text("#link", "No connection, trying again")
    page.until_text(".tile .word", "Unknown")
    with serve_floor(floor.port) as again:
        again.send(record("E0001", 51.5, 8000, 2.5, 3.7, 380))
        page.until_text("#link", "Connected")
        page.until_text(number("spindle_temperature_c"), "51.5")
        page.until_text(".tile .word", "Live")


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(floor: Floor, page: Page, size: tuple[int, int], scheme: Scheme) -> None:
    """Contrast, names, roles and structure by axe; nothing is wider than the screen."""
    look(page.chrome, size, scheme)
    floor.send(record("E0"), at=time.time_ns() // 1_000_000 - 60_000)
    floor.send(b"".join(record(f"E{n}") for n in range(1, 9)))
    floor.do(lambda: floor.shop.claimed_twice.add("E2"))
    page.open("/")
    page.until_text(".tile:nth-child(3) .claimed", CLAIMED)
    page.until_text(".tile:nth-child(1) .word", "Silent")
    page.until_text(".tile:nth-child(2) .word", "Live")
    page.check_accessibility()
    assert {
        "navigation",
        "main",
        "search",
        "heading",
        "list",
        "DescriptionList",
        "term",
        "definition",
    } <= page.roles()
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")


def test_dark_is_dark_and_light_is_light(page: Page) -> None:
    """As the system is, also when it changes while somebody looks."""
    page.open("/")
    background = "return getComputedStyle(document.body).backgroundColor"
    light = page.run(background)
    look(page.chrome, scheme="dark")
    page.until(lambda: page.run(background) != light)
    assert (light, page.run(background)) == ("rgb(243, 245, 248)", "rgb(13, 18, 24)")
