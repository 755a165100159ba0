"""The page of one machine, and the page of connections."""

import time
from functools import partial
from urllib.parse import quote

import pytest

from parser.block import Closed
from tests.browser.chromium import DESKTOP, PHONE, Scheme, look
from tests.browser.floor import Floor, fill
from tests.browser.page import Page
from tests.browser.test_machines import CLAIMED
from tests.web.shop import record

pytestmark = pytest.mark.browser

SCHEMES: tuple[Scheme, ...] = ("light", "dark", "light")
CHARTS = "#charts figure"
DRAWN = """
const canvases = (root) => [...root.querySelectorAll('*')].flatMap((element) => [
  ...(element instanceof HTMLCanvasElement && element.width ? [element] : []),
  ...(element.shadowRoot ? canvases(element.shadowRoot) : []),
]);
const pixels = (canvas) => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  const context = copy.getContext('2d', { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  return new Uint32Array(context.getImageData(0, 0, copy.width, copy.height).data.buffer);
};
const drawn = (figure) => canvases(figure).some((canvas) => pixels(canvas).includes(arguments[0]));
return [...document.querySelectorAll('#charts figure')].map(drawn)
"""
LINE: dict[Scheme, int] = {"light": 0xFFC26917, "dark": 0xFFFCAE63}
"""The colour of the charts' lines, as a canvas holds it: alpha, blue, green, red."""


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def all_drawn(page: Page, scheme: Scheme) -> bool:
    """Whether each of the five charts shows a line in the colour of that scheme."""
    return page.run(DRAWN, LINE[scheme]) == [True] * 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_last_hour_is_drawn_and_told_in_words(floor: Floor, page: Page, scheme: Scheme) -> None:
    """Five charts with their lowest, highest and mean value."""
    look(page.chrome, scheme=scheme)
    for minute in range(60, 0, -1):
        text = record("E0001", 30 + minute % 10, 8000, 2.5, 3.7, 380)
        floor.send(text, at=now_ms() - minute * 60_000 + 30_000)
    page.open("/machines/E0001")
    page.until(lambda: all_drawn(page, scheme))
    summary = f"{CHARTS}[data-field=spindle_temperature_c] .summary"
    assert page.text(summary) == "30.0 to 39.0, mean 34.5 °C"
    floor.send(record("E0001", 99, 8000, 2.5, 3.7, 380))
    page.until(lambda: page.text(summary).startswith("30.0 to 99.0"))


def test_a_single_reading_is_seen(floor: Floor, page: Page) -> None:
    """As a dot, where there is no line to draw."""
    floor.send(record("E0001"), at=now_ms() - 1_800_000)
    page.open("/machines/E0001")
    page.until(lambda: all_drawn(page, "light"))


def test_charts_turn_dark_with_the_system(floor: Floor, page: Page) -> None:
    """While somebody looks, and light again."""
    fill(floor, ["E0001"], now_ms(), step=60)
    page.open("/machines/E0001")
    for scheme in SCHEMES:
        look(page.chrome, scheme=scheme)
        page.until(partial(all_drawn, page, scheme))
        floor.send(record("E0001"))
        assert page.text("#hour-note") == ""


def test_values_are_live(floor: Floor, page: Page) -> None:
    """Those of this machine and of no other."""
    floor.send(record("E0001", 35.2, 8000, 2.5, 3.7, 380))
    page.open("/machines/E0001")
    where = "#now [data-field=spindle_temperature_c] .number"
    page.until_text(where, "35.2")
    page.until(lambda: floor.shop.feed.watched)
    floor.send(record("E0001", 36.1, 8000, 2.5, 3.7, 380) + record("E0002", 99, 1, 1, 1, 1))
    page.until_text(where, "36.1")
    assert page.text("#machine .word") == "Live"


def test_two_connections_that_send_for_it_are_told_in_words(floor: Floor, page: Page) -> None:
    """To screen readers too, and only of this machine."""
    floor.send(record("E0001"))
    page.open("/machines/E0001")
    page.until(lambda: floor.shop.feed.watched)
    floor.do(lambda: floor.shop.claimed_twice.update({"E0001", "E0002"}))
    page.until_text("#claimed", CLAIMED)
    assert "status" in page.roles()
    page.open("/machines/E0001")
    page.until_text("#claimed", CLAIMED)
    page.until(lambda: floor.shop.feed.watched)
    floor.do(lambda: floor.shop.claimed_twice.remove("E0001"))
    page.until(lambda: not page.find("#claimed").is_displayed())


def test_rejects_show_their_bytes_and_run_nothing(floor: Floor, page: Page) -> None:
    """Reason in words, bytes as text, place; markup in them stays text."""
    bad = b"E0001,<img src=x onerror=alert(1)>,8000,2.5,3.7,380#E0001,1\x00\xff,2,3,4,5#"
    floor.send(record("E0001") + bad)
    page.open("/machines/E0001")
    page.until(lambda: len(page.all("#rejects tbody tr")) == 2)
    newest, older = [
        [cell.text for cell in row.find_elements("css selector", "td")]
        for row in page.all("#rejects tbody tr")
    ]
    assert newest[1:3] == ["line break or NUL inside", r"E0001,1\x00\xff,2,3,4,5"]
    assert older[1] == "spindle temperature: not a number"
    assert older[2] == "E0001,<img src=x onerror=alert(1)>,8000,2.5,3.7,380"
    assert older[3] == f"byte {len(record('E0001'))}"
    assert not page.all("#rejects img")


def test_older_rejects_are_shown_on_demand(floor: Floor, page: Page) -> None:
    """Twenty at first, all in the end, the newest first."""
    floor.send(record("E0001") + b"".join(b"E0001,%d#" % n for n in range(45)))
    page.open("/machines/E0001")
    page.until(lambda: len(page.all("#rejects tbody tr")) == 20)
    page.find("#older").click()
    page.until(lambda: len(page.all("#rejects tbody tr")) == 40)
    page.find("#older").click()
    page.until(lambda: len(page.all("#rejects tbody tr")) == 45)
    codes = [code.text for code in page.all("#rejects code")]
    assert codes == [f"E0001,{n}" for n in range(44, -1, -1)]
    assert not page.find("#older").is_displayed()


@pytest.mark.parametrize("name", ["a b/c?", "<script>alert(1)</script>", "100%", "'\"&"])
def test_any_name_has_its_page(floor: Floor, page: Page, name: str) -> None:
    """Reached from its tile, whatever characters it holds."""
    floor.send(record(name, 41.5, 1, 1, 1, 1))
    page.open("/")
    page.until(lambda: page.all(".tile h2 a"))
    page.find(".tile h2 a").click()
    page.until_text("h1", name)
    page.until_text("#now [data-field=spindle_temperature_c] .number", "41.5")
    assert quote(name, safe="!'()") in page.chrome.current_url


def test_an_unknown_machine_gets_a_page_that_says_so(floor: Floor, page: Page) -> None:
    """With the way back."""
    page.expected = ["404"]
    floor.send(record("E0001"))
    page.open("/machines/E0009")
    page.until_text("h1", "Not Found")
    page.find("main a").click()
    page.until_text("h1", "Machines")


def test_connections_show_counters_and_why_they_closed(floor: Floor, page: Page) -> None:
    """And follow what happens without a reload."""
    floor.send(record("E0001") * 3 + b"E0001,1#")
    page.open("/connections")
    page.until_text("#connections .state", "open")
    cells = [cell.text for cell in page.all("#connections td")]
    assert cells[4:6] == ["3", "1"]
    assert cells[1].startswith("10.0.0.7:5000")
    floor.do(lambda: floor.shop.send(b"", events=[Closed(1, "reset", 99)]))
    page.until_text("#connections .state", "reset by the machine")
    assert page.text("#note") == "0 of the newest 1 are open"


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/machines/E0001", "/connections"])
def test_nobody_is_kept_out(
    floor: Floor, page: Page, size: tuple[int, int], scheme: Scheme, path: str
) -> None:
    """Contrast, names, roles and structure by axe; nothing is wider than the screen."""
    look(page.chrome, size, scheme)
    fill(floor, ["E0001"], now_ms(), step=60)
    floor.do(lambda: floor.shop.claimed_twice.add("E0001"))
    page.open(path)
    page.until(lambda: page.all(".rows tbody tr"))
    if path != "/connections":
        page.until_text("#claimed", CLAIMED)
        page.until(lambda: all_drawn(page, scheme))
    page.check_accessibility()
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")
