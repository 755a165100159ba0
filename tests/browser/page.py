"""A page as a person meets it: opened, looked at, operated."""

import json
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from axe_selenium_python import Axe
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

DEADLINE_S: Final = 30
_COMPLAINTS: Final = frozenset({"WARNING", "SEVERE"})
_LOCAL: Final = frozenset({"about", "data"})
GRAVE: Final = frozenset({"serious", "critical", "moderate"})


class Page:
    """One browser tab on one server."""

    def __init__(self, chrome: Chrome, url: str) -> None:
        self.chrome = chrome
        self.url = url
        self.expected: list[str] = []
        """Parts of complaints in the console that a test provokes."""

    def open(self, path: str) -> None:
        """Go to a page of the server."""
        self.chrome.get(self.url + path)

    def find(self, selector: str) -> WebElement:
        """The first such element."""
        return self.chrome.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """All such elements."""
        return self.chrome.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """What is written there; empty where there is no such element."""
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def run(self, script: str, *arguments: object) -> object:
        """What the script returns."""
        return self.chrome.execute_script(script, *arguments)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until it holds."""
        WebDriverWait(self.chrome, DEADLINE_S, 0.05).until(lambda _: condition())

    def until_text(self, selector: str, text: str) -> None:
        """Wait until it stands there."""
        self.until(lambda: self.text(selector) == text)

    def roles(self) -> set[str]:
        """The roles that a screen reader is told of."""
        nodes = self.chrome.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        return {node["role"]["value"] for node in nodes if not node["ignored"]}

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        actions = ActionChains(self.chrome)
        for key in keys:
            actions.send_keys(key)
        actions.perform()

    def focused(self) -> str:
        """What the focused element says or is labelled with."""
        script = "const e = document.activeElement; return e.labels?.[0]?.firstChild.data ?? e.innerText"
        return str(self.run(script)).strip()

    def forget(self) -> None:
        """Forget what the browser wrote down so far."""
        self.log("browser")
        self.log("performance")

    def log(self, name: str) -> list[dict[str, str]]:
        """What the browser wrote down since this was asked last."""
        entries: list[dict[str, str]] = self.chrome.get_log(name)  # type: ignore[no-untyped-call]  # selenium's
        return entries

    def check_requests(self) -> None:
        """All requests since `forget` went to the server."""
        messages = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        sent = [entry["params"] for entry in messages if entry["method"] == "Network.requestWillBeSent"]
        urls = {urlsplit(entry["request"]["url"]) for entry in sent}
        ours = urlsplit(self.url).netloc
        foreign = [url.geturl() for url in urls if url.scheme not in _LOCAL and url.netloc != ours]
        assert not foreign, foreign

    def check_console(self) -> None:
        """Nothing unexpected was complained about since `forget`."""
        entries = [entry["message"] for entry in self.log("browser") if entry["level"] in _COMPLAINTS]
        complaints = [text for text in entries if not any(part in text for part in self.expected)]
        assert not complaints, complaints

    def check_accessibility(self) -> None:
        """No violation of an accessibility rule that keeps somebody out."""
        axe = Axe(self.chrome)
        axe.inject()
        # The packaged axe is of 2018 and doesn't know that groups in a `dl` may stand in a `div`.
        found = axe.run(options="{rules: {dlitem: {enabled: false}}}")["violations"]
        assert not [rule for rule in found if rule["impact"] in GRAVE], axe.report(found)
