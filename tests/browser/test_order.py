"""The pages of ordering: the form, one's own orders, and the supplier's queue."""

import re
from functools import partial

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from mes.amp.states import State
from tests.browser.chromium import DESKTOP, PHONE, Scheme, look
from tests.browser.gateway import ADMINISTRATOR, CUSTOMER, MANAGER, OPERATOR, Gateway, log_in
from tests.browser.page import Page
from tests.orders.supplier_side import never

pytestmark = pytest.mark.browser

NONE = "\N{EN DASH}"
SENT = "Code: 200. order sent to the supplier"
FORBIDDEN = "Code: 403. Request submission failed due to lack of user permission"
STALE = """
const real = window.fetch;
window.fetch = (url, how) => how.method ? real(url, how) : new Promise(() => {});
"""
"""From now on the page learns nothing new."""
DOT = "return getComputedStyle(document.getElementById('outcome'), '::before').backgroundColor"


def order(page: Page, amount: int = 40) -> None:
    """Send an order of so many pieces."""
    page.find("[name=amount]").clear()
    page.find("[name=amount]").send_keys(str(amount))
    send(page)


def send(page: Page) -> None:
    """Press the button, once it can be pressed."""
    page.until(lambda: not page.all("#finalize[aria-disabled]"))
    page.find("#finalize").click()


def colour(page: Page) -> str:
    """Of the outcome's dot, by whichever of red and green there is more."""
    red, green = re.findall(r"\d+", str(page.run(DOT)))[:2]
    return "red" if int(red) > int(green) else "green"


def cells(page: Page, row: int = 1) -> list[str]:
    """What stands in a row of the page's table."""
    script = "return [...document.querySelectorAll(arguments[0])].map(cell => cell.innerText.trim())"
    found = page.run(script, f".rows tbody tr:nth-child({row}) td")
    assert isinstance(found, list)
    return found


def test_an_order_is_sent_and_followed(gateway: Gateway, desk: Page) -> None:
    """Outcome, number, price, place; and whatever the supplier does with it, without a reload."""
    log_in(desk, CUSTOMER, "/order")
    order(desk)
    desk.until_text("#outcome", SENT)
    assert colour(desk) == "green"
    assert desk.text("#which") == "Order 1"
    assert [desk.text(f"#{name}") for name in ("state", "place", "price")] == ["queued", "1", "800"]
    order(desk, 7)
    desk.until_text("#which", "Order 2")
    assert desk.text("#place") == "2"
    gateway.work(1, State.IN_PRODUCTION)
    gateway.work(1, State.DONE)
    desk.until_text("#place", "1")
    gateway.work(2, State.IN_PRODUCTION)
    desk.until_text("#state", "in production")
    assert not desk.find("#cancel").is_displayed()
    gateway.work(2, State.DONE)
    desk.until_text("#state", "done")
    desk.until_text("#place", NONE)


@pytest.mark.parametrize("user", [MANAGER, OPERATOR])
def test_who_may_not_order_is_told_so(gateway: Gateway, desk: Page, user: str) -> None:
    """On the same page, when they send it; and nothing is ordered."""
    desk.expected = ["403"]
    log_in(desk, user, "/order")
    order(desk)
    desk.until_text("#outcome", FORBIDDEN)
    assert colour(desk) == "red"
    assert not desk.find("#standing").is_displayed()
    assert gateway.ordered() == 0


def test_an_amount_that_is_none_is_not_sent(gateway: Gateway, desk: Page) -> None:
    """The browser says so before anything is sent; what only the server knows, it says."""
    desk.expected = ["422"]
    log_in(desk, CUSTOMER, "/order")
    for amount in ("0", "-1", "1.5", ""):
        desk.find("[name=amount]").clear()
        desk.find("[name=amount]").send_keys(amount)
        send(desk)
        assert desk.run("return document.querySelector('[name=amount]').validationMessage")
        assert desk.text("#outcome") == ""
    order(desk, 1001)
    desk.until_text("#outcome", "Code: 422. amount: must be 1 to 1000 pieces")
    assert colour(desk) == "red"
    assert gateway.ordered() == 0


def test_a_base_without_any_work_is_not_sold(desk: Page) -> None:
    """In the server's words."""
    desk.expected = ["422"]
    log_in(desk, CUSTOMER, "/order")
    for field in ("drilling", "cleaning", "pressing", "inspection"):
        desk.find(f"[name={field}]").send_keys("Without")
    send(desk)
    desk.until(lambda: desk.text("#outcome").startswith("Code: 422. inspection: "))


def test_a_supplier_that_was_away_gets_one_order(gateway: Gateway, desk: Page) -> None:
    """However often the button is pressed: each click means the same order until its fate is known."""
    desk.expected = ["503"]
    log_in(desk, CUSTOMER, "/order")
    gateway.lose_supplier()
    order(desk)
    for _ in range(2):
        desk.until(lambda: desk.text("#outcome").startswith("Code: 503. "))
        assert desk.text("#outcome").endswith("nothing was ordered; try again later")
        desk.until_text("#state", "never reached the supplier")
        send(desk)
    desk.until(lambda: desk.text("#outcome"))
    gateway.find_supplier()
    send(desk)
    desk.until_text("#outcome", SENT)
    assert desk.text("#which") == "Order 1"
    assert gateway.ordered() == 1
    desk.open("/orders")
    desk.until(lambda: len(desk.all(".rows tbody tr")) == 1)


def test_an_order_whose_fate_is_not_known_is_not_doubled(gateway: Gateway, desk: Page) -> None:
    """The page says that nobody knows, and the next click asks for the same order."""
    desk.expected = ["504"]
    log_in(desk, CUSTOMER, "/order")
    gateway.mes.troubles = [never]
    order(desk)
    desk.until(lambda: desk.text("#outcome").startswith("Code: 504. "))
    assert desk.text("#which") == "Your order"
    send(desk)
    desk.until_text("#outcome", SENT)
    assert gateway.ordered() == 1


def test_a_double_click_is_one_order(gateway: Gateway, desk: Page) -> None:
    """Also when the answer to the first is there before the second."""
    log_in(desk, CUSTOMER, "/order")
    ActionChains(desk.chrome).double_click(desk.find("#finalize")).perform()
    desk.until_text("#outcome", SENT)
    desk.find("#finalize").click()
    send(desk)
    desk.until_text("#which", "Order 2")
    assert gateway.ordered() == 2


def test_an_order_is_taken_back_where_it_was_made(desk: Page) -> None:
    """And can't be taken back twice."""
    log_in(desk, CUSTOMER, "/order")
    order(desk)
    desk.until(lambda: desk.find("#cancel").is_displayed())
    desk.find("#cancel").click()
    desk.until_text("#state", "cancelled")
    assert not desk.find("#cancel").is_displayed()
    assert desk.text("#place") == NONE


def test_an_order_that_is_made_already_stays(gateway: Gateway, desk: Page) -> None:
    """Who asks a moment too late is told why."""
    desk.expected = ["409"]
    log_in(desk, CUSTOMER, "/orders")
    desk.until_text("#empty h2", "No orders yet")
    desk.find("#empty a").click()
    desk.until(lambda: desk.all("#order"))
    order(desk)
    desk.until_text("#outcome", SENT)
    desk.run(STALE)
    gateway.work(1, State.IN_PRODUCTION)
    desk.find("#cancel").click()
    desk.until(lambda: desk.text("#outcome").startswith("Code: 409. "))
    assert colour(desk) == "red"


def test_customers_see_and_cancel_their_own_orders(gateway: Gateway, desk: Page) -> None:
    """The newest first, with what the supplier says of them."""
    log_in(desk, ADMINISTRATOR, "/order")
    order(desk, 3)
    desk.until_text("#outcome", SENT)
    desk.chrome.delete_all_cookies()
    log_in(desk, CUSTOMER, "/order")
    for amount, which in ((40, "Order 2"), (7, "Order 3")):
        order(desk, amount)
        desk.until_text("#which", which)
    desk.open("/orders")
    desk.until(lambda: len(desk.all(".rows tbody tr")) == 2)
    what = "Base 40mm, 3 second Drilling, with cleaning, with pressing, complete inspection"
    assert cells(desk)[2:] == [CUSTOMER, "7", what, "140", "queued", "3", "Cancel"]
    gateway.work(1, State.IN_PRODUCTION)
    gateway.work(1, State.DONE)
    desk.until(lambda: cells(desk)[7] == "2")
    desk.find(".rows tbody button").click()
    desk.until(lambda: cells(desk)[6:] == ["cancelled", NONE, ""])
    gateway.work(2, State.IN_PRODUCTION)
    desk.until(lambda: cells(desk, 2)[6] == "in production")


def test_who_may_read_all_orders_takes_none_back(desk: Page) -> None:
    """Managers see everybody's; an administrator chooses."""
    log_in(desk, CUSTOMER, "/order")
    order(desk)
    desk.until_text("#outcome", SENT)
    desk.chrome.delete_all_cookies()
    log_in(desk, MANAGER, "/orders")
    desk.until(lambda: cells(desk)[2:3] == [CUSTOMER])
    assert not desk.all(".rows button")
    desk.chrome.delete_all_cookies()
    log_in(desk, ADMINISTRATOR, "/orders")
    desk.until_text("#empty h2", "No orders yet")
    desk.find("#whose").send_keys("e")
    desk.until(lambda: cells(desk)[2:3] == [CUSTOMER])
    assert not desk.find("#empty").is_displayed()


def test_the_queue_is_live(gateway: Gateway, desk: Page) -> None:
    """Who waits, who is made, in order; done orders leave it."""
    log_in(desk, ADMINISTRATOR, "/queue")
    desk.until_text("#empty h2", "Nothing waits")
    desk.open("/order")
    for number in (1, 2):
        order(desk, number)
        desk.until_text("#which", f"Order {number}")
    desk.open("/queue")
    desk.until_text("#note", "2 orders")
    assert cells(desk)[:4] == ["1", "1", "queued", "1"]
    assert not desk.find("#older").is_displayed()
    gateway.work(1, State.IN_PRODUCTION)
    desk.until(lambda: cells(desk)[2:3] == ["in production"])
    gateway.work(1, State.DONE)
    desk.until_text("#note", "1 order")
    assert cells(desk)[:2] == ["1", "2"]


def test_a_lost_supplier_is_told_on_the_queue(gateway: Gateway, desk: Page) -> None:
    """As such, for the gateway is there; and found again without a reload."""
    desk.expected = ["503", "504"]
    log_in(desk, MANAGER, "/queue")
    desk.until_text("#link", "Connected")
    gateway.lose_supplier()
    desk.until_text("#link", "The supplier can't be reached")
    gateway.find_supplier()
    desk.until_text("#link", "Connected")


def test_the_form_is_filled_in_and_sent_with_the_keyboard_alone(gateway: Gateway, desk: Page) -> None:
    """Focus goes through the fields as they stand, is seen, and stays where it was when the answer comes."""
    log_in(desk, CUSTOMER, "/order")
    stops = []
    for _ in range(11):
        desk.press(Keys.TAB)
        stops.append(desk.focused())
        outline = desk.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", stops
        if stops[-1] == "Amount":
            desk.press(Keys.BACKSPACE, "4", "0")
        if stops[-1] == "Inspection":
            desk.press("W")
    fields = ["Base", "Amount", "Drilling", "Cleaning", "Pressing", "Inspection"]
    assert stops == ["Skip to content", "Headrace", "Order", "Orders", "Log out", *fields]
    desk.press(Keys.TAB, Keys.ENTER)
    desk.until_text("#outcome", SENT)
    assert desk.focused() == "Finalize order"
    assert desk.run("return document.getElementById('outcome').role ?? ''") == "status"
    desk.press(Keys.TAB)
    assert desk.focused() == "Cancel order"
    desk.open("/orders")
    desk.until(lambda: "without" not in cells(desk) and cells(desk)[3:4] == ["40"])
    assert cells(desk)[4].endswith("without inspection")
    assert gateway.ordered() == 1


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(desk: Page, size: tuple[int, int], scheme: Scheme) -> None:
    """Contrast, names, roles and structure by axe; nothing is wider than the screen."""
    look(desk.chrome, size, scheme)
    log_in(desk, ADMINISTRATOR, "/order")
    order(desk)
    desk.until_text("#outcome", SENT)
    desk.until(lambda: not desk.all("#finalize[aria-disabled]"))
    for path in ("", "/orders", "/queue"):
        if path:
            desk.open(path)
            desk.until(partial(cells, desk))
        desk.check_accessibility()
        assert desk.run("return document.documentElement.scrollWidth <= innerWidth")
