"""The page of the gateway's log."""

import time
import uuid
from functools import partial

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from orders.logs.base import Level, LogRow
from tests.browser.chromium import DESKTOP, PHONE, Scheme, look
from tests.browser.gateway import ADMINISTRATOR, CUSTOMER, Gateway, enter, log_in
from tests.browser.page import Page

pytestmark = pytest.mark.browser

MESSAGE = ".rows tbody td:nth-child(4)"
MARKUP = "<img src=x onerror=alert(1)>"


def write(gateway: Gateway, level: Level, messages: list[str], **info: str) -> None:
    """Rows of the customer, one after the other, all before now."""
    end = time.time_ns() // 1_000_000 - 1_000
    rows = [
        LogRow(
            id=uuid.UUID(int=(end + n) << 80 | 7 << 76 | 2 << 62 | list(Level).index(level) << 32 | n),
            timestamp=end - len(messages) + n,
            level=level,
            message=message,
            user_id=CUSTOMER,
            source_component="CustomerOrder",
            source_file="AmpFacadeAPI",
            source_line=54,
            additional_info=info,
        )
        for n, message in enumerate(messages)
    ]
    gateway.ask(gateway.counter.logs.append(rows))


def messages(page: Page) -> list[str]:
    """Those of the rows that are shown."""
    found = page.run(f"return [...document.querySelectorAll('{MESSAGE}')].map(cell => cell.innerText)")
    assert isinstance(found, list)
    return [str(text) for text in found]


def shows(page: Page, number: int) -> bool:
    """Whether so many rows are shown."""
    return len(messages(page)) == number


def search(page: Page, **words: str) -> None:
    """Fill in these, empty the others, and send it with the Enter key."""
    Select(page.find("[name=level]")).select_by_visible_text(words.pop("level", "all"))
    for name in ("user", "component", "text"):
        page.find(f"[name={name}]").clear()
        page.find(f"[name={name}]").send_keys(words.get(name, ""))
    page.find("[name=text]").send_keys(Keys.ENTER)


def test_what_happened_is_a_row(desk: Page) -> None:
    """With who, what, why and where from; what happens while somebody looks appears by itself."""
    desk.expected = ["401"]
    desk.open("/login")
    enter(desk, CUSTOMER, "not the password")
    desk.until(lambda: desk.text("#outcome"))
    log_in(desk, ADMINISTRATOR, "/logs")
    desk.until(lambda: "Connection attempt failed" in messages(desk))
    search(desk, text="attempt failed")
    desk.until(lambda: messages(desk) == ["Connection attempt failed"])
    cells = [cell.text for cell in desk.all(".rows tbody td")]
    assert cells[1:3] == ["WARN", CUSTOMER]
    assert "reason: Invalid credentials" in cells[4].splitlines()
    assert cells[5].startswith("Authentication, SecurityController:")


def test_rows_are_found_by_level_user_component_and_text(gateway: Gateway, desk: Page) -> None:
    """All that is asked for must fit; nothing found is said, and nothing asked for is all."""
    write(gateway, Level.INFO, ["Order was validated", "Order was forwarded"])
    write(gateway, Level.FATAL, ["The tables are gone"], reason="no space left")
    log_in(desk, ADMINISTRATOR, "/logs")
    everything = 4  # with the login
    desk.until(lambda: len(messages(desk)) == everything)
    search(desk, level="FATAL")
    desk.until(lambda: messages(desk) == ["The tables are gone"])
    search(desk, user=CUSTOMER, component="CustomerOrder", text="FORWARDED")
    desk.until(lambda: messages(desk) == ["Order was forwarded"])
    search(desk, text="space left")
    desk.until(lambda: messages(desk) == ["The tables are gone"])
    search(desk, level="ERROR", user=CUSTOMER)
    desk.until(lambda: desk.find("#empty").is_displayed())
    assert not desk.find("#logs").is_displayed()
    search(desk)
    desk.until(lambda: len(messages(desk)) >= everything)
    assert not desk.find("#empty").is_displayed()


def test_new_rows_appear_by_themselves(gateway: Gateway, desk: Page) -> None:
    """As long as they fit what is searched for."""
    log_in(desk, ADMINISTRATOR, "/logs")
    search(desk, text="carried out")
    desk.until(lambda: desk.find("#empty").is_displayed())
    write(gateway, Level.INFO, ["Order of 40 Base 40mm successfully carried out"])
    desk.until(lambda: messages(desk) == ["Order of 40 Base 40mm successfully carried out"])


def test_older_rows_are_shown_on_demand(gateway: Gateway, desk: Page) -> None:
    """A hundred at first, all in the end, the newest first, each once; a new search begins anew."""
    texts = [f"Order {n} was validated" for n in range(250)]
    write(gateway, Level.INFO, texts)
    log_in(desk, ADMINISTRATOR, "/logs")
    search(desk, user=CUSTOMER)
    desk.until(lambda: messages(desk) == texts[:-101:-1])
    for shown in (200, 250):
        desk.find("#older").click()
        desk.until(partial(shows, desk, shown))
    assert messages(desk) == texts[::-1]
    desk.until(lambda: not desk.find("#older").is_displayed())
    search(desk, text="Order 7 was")
    desk.until(lambda: messages(desk) == ["Order 7 was validated"])


def test_markup_in_a_row_stays_text(gateway: Gateway, desk: Page) -> None:
    """Whoever sent it."""
    write(gateway, Level.WARN, [MARKUP], reason=MARKUP)
    log_in(desk, ADMINISTRATOR, "/logs")
    desk.until(lambda: MARKUP in messages(desk))
    assert f"reason: {MARKUP}" in desk.text("#logs")
    assert not desk.all("#logs img")


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(gateway: Gateway, desk: Page, size: tuple[int, int], scheme: Scheme) -> None:
    """Contrast, names, roles and structure by axe; nothing is wider than the screen."""
    look(desk.chrome, size, scheme)
    for level in Level:
        write(gateway, level, [f"One of level {level} with a long word: {'w' * 90}"], trace_id="4bf92f" * 6)
    log_in(desk, ADMINISTRATOR, "/logs")
    desk.until(lambda: len(messages(desk)) >= len(Level))
    desk.check_accessibility()
    assert desk.run("return document.documentElement.scrollWidth <= innerWidth")
