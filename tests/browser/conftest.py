"""A browser for all tests here, and a floor or a gateway for each."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from tests.browser.chromium import browser, look, missing
from tests.browser.floor import Floor, serve_floor
from tests.browser.gateway import Gateway, serve_gateway
from tests.browser.page import Page


@pytest.fixture(scope="session")
def chrome() -> Iterator[Chrome]:
    """One browser; in CI its absence is a failure."""
    if (install := missing()) is not None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no browser; try: {install}")
    with browser() as chrome:
        yield chrome


@pytest.fixture
def floor() -> Iterator[Floor]:
    """A served floor whose machines have sent nothing yet."""
    with serve_floor() as floor:
        yield floor


@pytest.fixture
def page(chrome: Chrome, floor: Floor) -> Iterator[Page]:
    """A desktop page that nothing was opened in; it must not complain nor ask other hosts."""
    with _watched(chrome, floor) as page:
        yield page


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A served gateway where nothing was ordered yet."""
    with serve_gateway(tmp_path) as gateway:
        yield gateway


@pytest.fixture
def desk(chrome: Chrome, gateway: Gateway) -> Iterator[Page]:
    """The same as `page` at the gateway, of somebody who has not logged in yet."""
    with _watched(chrome, gateway) as page:
        yield page
        chrome.delete_all_cookies()


@contextmanager
def _watched(chrome: Chrome, floor: Floor) -> Iterator[Page]:
    look(chrome)
    page = Page(chrome, floor.url)
    page.forget()
    yield page
    chrome.get("about:blank")
    page.check_requests()
    page.check_console()
