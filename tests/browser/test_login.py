"""Logging in and out, and what is shown to whom."""

from urllib.parse import quote

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.chromium import DESKTOP, PHONE, Scheme, look
from tests.browser.gateway import ADMINISTRATOR, CUSTOMER, MANAGER, OPERATOR, PASSWORD, Gateway, enter, log_in
from tests.browser.page import Page

pytestmark = pytest.mark.browser

ASK = "return fetch('/api/v1/session').then(answer => answer.status)"
FOREIGN = [
    "//elsewhere.example/",
    "/.//elsewhere.example/",
    "/\\elsewhere.example/",
    "https://elsewhere.example/",
    "javascript:document.title='gone'",
    "http://[",
]


def path_of(page: Page) -> str:
    """Where the browser is, on this server."""
    assert page.chrome.current_url.startswith(page.url + "/")
    return page.chrome.current_url.removeprefix(page.url)


@pytest.mark.parametrize("path", ["/order", "/orders", "/queue", "/logs", "/connections", "/machines/E0001"])
def test_who_is_not_logged_in_gets_where_they_were_going(gateway: Gateway, desk: Page, path: str) -> None:
    """By way of the login, and not in again on the next page."""
    gateway.send(b"E0001,35.2,8000,2.5,3.7,380#")
    log_in(desk, ADMINISTRATOR, path)
    assert path_of(desk) == path
    desk.open("/orders")
    desk.until_text("h1", "Orders")


@pytest.mark.parametrize("there", FOREIGN)
def test_the_login_never_leads_to_a_foreign_page(desk: Page, there: str) -> None:
    """Whatever the address names as the page to go on to."""
    desk.expected = ["404"]
    desk.open(f"/login?next={quote(there)}")
    enter(desk, CUSTOMER, PASSWORD)
    desk.until(lambda: "/login" not in desk.chrome.current_url)
    assert desk.chrome.current_url.startswith(desk.url + "/")
    assert desk.run("return document.title") != "gone"


def test_a_wrong_password_is_told_and_can_be_mended(desk: Page) -> None:
    """In the same words for a name that nobody has; the next try needs no mouse."""
    desk.expected = ["401"]
    desk.open("/login?next=/orders")
    for name in (CUSTOMER, "Nobody"):
        enter(desk, name, "not the password")
        desk.until_text("#outcome", "name or password is wrong")
        assert desk.run("return document.activeElement.id") == "password"
    assert desk.find("#outcome").get_attribute("data-good") == "false"
    desk.find("#name").clear()
    desk.find("#name").send_keys(CUSTOMER, Keys.TAB, PASSWORD, Keys.ENTER)
    desk.until_text("h1", "Orders")


def test_after_logging_out_the_cookie_is_worth_nothing(desk: Page) -> None:
    """Not even to somebody who kept it."""
    desk.expected = ["401"]
    log_in(desk, CUSTOMER)
    cookie = desk.chrome.get_cookie("headrace_session")
    assert cookie is not None
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert desk.run(ASK) == 200
    desk.find("#leave button").click()
    desk.until_text("h1", "Log in")
    assert desk.chrome.get_cookie("headrace_session") is None
    desk.chrome.add_cookie({"name": "headrace_session", "value": cookie["value"]})
    assert desk.run(ASK) == 401
    desk.open("/orders")
    desk.until_text("h1", "Log in")


def test_a_log_out_that_fails_is_told(gateway: Gateway, desk: Page) -> None:
    """Nobody walks away from a session that goes on."""
    desk.expected = ["ERR_", "Failed to load resource"]
    log_in(desk, OPERATOR)
    gateway.stop()
    desk.until_text("#link", "No connection, trying again")
    desk.find("#leave button").click()
    desk.until_text("#leave button", "Still logged in; try again")


@pytest.mark.parametrize(
    ("user", "entries"),
    [
        (CUSTOMER, ["Order", "Orders"]),
        (MANAGER, ["Machines", "Connections", "Orders", "Queue"]),
        (OPERATOR, ["Machines", "Connections"]),
        (ADMINISTRATOR, ["Machines", "Connections", "Order", "Orders", "Queue", "Log"]),
    ],
)
def test_the_bar_shows_what_somebody_may_see(desk: Page, user: str, entries: list[str]) -> None:
    """The start page is the first of it; on a phone all of it is in view, and in order."""
    look(desk.chrome, PHONE)
    log_in(desk, user)
    links = desk.all(".bar nav a")
    assert [link.text for link in links] == entries
    assert desk.text(".bar [aria-current]") == entries[0]
    for link in [*links, desk.find("#leave button")]:
        assert 0 <= link.rect["x"] <= link.rect["x"] + link.rect["width"] <= PHONE[0]
    for place in (*entries, "Log out"):
        while desk.focused() != place:
            desk.press(Keys.TAB)


def test_a_page_that_one_may_not_see_says_so(desk: Page) -> None:
    """With the way back to what one may."""
    desk.expected = ["403"]
    log_in(desk, CUSTOMER)
    desk.open("/logs")
    desk.until_text("h1", "Forbidden")
    desk.check_accessibility()
    desk.find("main a").click()
    desk.until_text("h1", "Order Request Generator")


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(desk: Page, size: tuple[int, int], scheme: Scheme) -> None:
    """Contrast, names, roles and structure by axe; nothing is wider than the screen."""
    desk.expected = ["401"]
    look(desk.chrome, size, scheme)
    desk.open("/login")
    enter(desk, CUSTOMER, "not the password")
    desk.until(lambda: desk.text("#outcome"))
    desk.check_accessibility()
    assert desk.run("return document.documentElement.scrollWidth <= innerWidth")
