"""Screenshots of all pages, wide and narrow, light and dark: `python -m tests.browser.screens FOLDER`."""

import base64
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from mes.amp.states import State
from tests.browser.chromium import DESKTOP, PHONE, Scheme, browser, look
from tests.browser.floor import Floor, fill, machine, serve_floor
from tests.browser.gateway import (
    ADMINISTRATOR,
    CUSTOMER,
    MANAGER,
    Gateway,
    enter,
    log_in,
    serve_gateway,
)
from tests.browser.page import Page

DEVICES = [f"E{number:04}" for number in range(1, 21)]
PAGES = {"machines": "/", "machine": "/machines/E0001", "connections": "/connections"}
SIZES = {"wide": DESKTOP, "narrow": PHONE}
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


SEEN: Final = {
    CUSTOMER: {"orders": "/orders"},
    MANAGER: {"orders-all": "/orders"},
    ADMINISTRATOR: {"queue": "/queue", "logs": "/logs"},
}
"""Pages of rows, by who looks at them."""


def take_screens(folder: Path) -> None:
    """All of them, as PNG files named after page, size and scheme."""
    folder.mkdir(parents=True, exist_ok=True)
    with browser() as chrome:
        with serve_floor() as floor:
            fill(floor, DEVICES, time.time_ns() // 1_000_000)
            for name, path in PAGES.items():
                _take(chrome, folder / name, partial(_open_live, floor, chrome, path))
        with tempfile.TemporaryDirectory() as orders, serve_gateway(Path(orders)) as gateway:
            _take_gateway(gateway, chrome, folder)


def _take(chrome: Chrome, name: Path, show: Callable[[], None]) -> None:
    """A page as it is shown anew in each size and scheme."""
    for size_name, size in SIZES.items():
        for scheme in SCHEMES:
            look(chrome, size, scheme)
            show()
            png = chrome.execute_cdp_cmd("Page.captureScreenshot", {})["data"]
            name.with_name(f"{name.name}-{size_name}-{scheme}.png").write_bytes(base64.b64decode(png))


def _open_live(floor: Floor, chrome: Chrome, path: str) -> None:
    """A page after it has shown some seconds of what the machines send."""
    chrome.get(floor.url + path)
    WebDriverWait(chrome, 20).until(lambda page: page.find_elements(By.CSS_SELECTOR, ".tile, .rows tbody tr"))
    for _ in range(20):
        floor.send(b"".join(machine(device, time.time()) for device in DEVICES[:-2]))
        time.sleep(0.15)


def _take_gateway(gateway: Gateway, chrome: Chrome, folder: Path) -> None:
    """The way in, orders that are taken and refused, and what is to be seen of them."""
    page = Page(chrome, gateway.url)
    _take(chrome, folder / "login", partial(page.open, "/login"))
    enter(page, CUSTOMER, "not the password")
    page.until_text("#outcome", "name or password is wrong")
    for user, show in ((MANAGER, "order-403"), (CUSTOMER, "order")):
        chrome.delete_all_cookies()
        log_in(page, user, "/login")
        _take(chrome, folder / show, partial(_order, page))
    gateway.work(1, State.IN_PRODUCTION)
    for user, pages in SEEN.items():
        chrome.delete_all_cookies()
        log_in(page, user, "/login")
        for name, path in pages.items():
            _take(chrome, folder / name, partial(_open_rows, page, path))


def _order(page: Page) -> None:
    """Forty pieces, and what became of it."""
    page.open("/order")
    page.find("[name=amount]").clear()
    page.find("[name=amount]").send_keys("40")
    page.find("#finalize").click()
    page.until(lambda: page.text("#outcome") and not page.all("#finalize[aria-disabled]"))


def _open_rows(page: Page, path: str) -> None:
    page.open(path)
    page.until(lambda: page.all(".rows tbody tr"))


if __name__ == "__main__":
    take_screens(Path(sys.argv[1]))
