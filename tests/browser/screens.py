"""Screenshots of all pages, wide and narrow, light and dark: `python -m tests.browser.screens FOLDER`."""

import base64
import sys
import time
from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser.chromium import DESKTOP, PHONE, Scheme, browser, look
from tests.browser.floor import Floor, fill, machine, serve_floor

DEVICES = [f"E{number:04}" for number in range(1, 21)]
PAGES = {"machines": "/", "machine": "/machines/E0001", "connections": "/connections"}
SIZES = {"wide": DESKTOP, "narrow": PHONE}
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


def take_screens(folder: Path) -> None:
    """All of them, as PNG files named after page, size and scheme."""
    folder.mkdir(parents=True, exist_ok=True)
    with serve_floor() as floor, browser() as chrome:
        fill(floor, DEVICES, time.time_ns() // 1_000_000)
        for page, path in PAGES.items():
            for name, size in SIZES.items():
                for scheme in SCHEMES:
                    look(chrome, size, scheme)
                    file = folder / f"{page}-{name}-{scheme}.png"
                    file.write_bytes(_take(floor, chrome, path))


def _take(floor: Floor, chrome: Chrome, path: str) -> bytes:
    """A page after it has shown some seconds of what the machines send."""
    chrome.get(floor.url + path)
    WebDriverWait(chrome, 20).until(lambda page: page.find_elements(By.CSS_SELECTOR, ".tile, .rows tbody tr"))
    for _ in range(20):
        floor.send(b"".join(machine(device, time.time()) for device in DEVICES[:-2]))
        time.sleep(0.15)
    return base64.b64decode(chrome.execute_cdp_cmd("Page.captureScreenshot", {})["data"])


if __name__ == "__main__":
    take_screens(Path(sys.argv[1]))
