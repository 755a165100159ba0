"""Headless Chromium as Debian ships it: found, started, and made as wide and as dark as a test needs."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

PHONE: Final = (390, 844)
DESKTOP: Final = (1280, 900)

Scheme = Literal["light", "dark"]


def missing() -> str | None:
    """What to install before a browser can be started; None if all is there."""
    names = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"apt-get install chromium chromium-driver  # not found: {', '.join(names)}" if names else None


@contextmanager
def browser() -> Iterator[Chrome]:
    """A browser that keeps its console and the list of its requests."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert chromium is not None, missing()
    options = ChromeOptions()
    options.binary_location = chromium
    options.add_argument("--headless=new")
    options.add_argument("--disable-dev-shm-usage")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = Chrome(options, ChromeService(driver))
    try:
        yield chrome
    finally:
        chrome.quit()


def look(chrome: Chrome, size: tuple[int, int] = DESKTOP, scheme: Scheme = "light") -> None:
    """Set the page's width and height, and whether the system is light or dark."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
