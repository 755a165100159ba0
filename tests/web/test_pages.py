"""The pages as they leave the server; what becomes of them in a browser is tested in tests/browser."""

import re
from html.parser import HTMLParser

import aiohttp
import pytest

from storage.errors import StoreUnavailableError
from storage.memory import MemoryReadingStore
from tests.web.shop import Shop, record

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
PATHS = ["/", "/machines/E0001", "/connections"]


class Sources(HTMLParser):
    """Everything that a page makes the browser load or follow."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note links and sources, and scripts that stand in the page."""
        named = dict(attrs)
        self.found += [value for name, value in attrs if name in {"src", "href"} and value]
        self.inline |= tag == "script" and "src" not in named
        self.inline |= any(name == "style" or name.startswith("on") for name in named)


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_and_all_it_loads_come_from_here(
    shop: Shop, client: aiohttp.ClientSession, path: str
) -> None:
    """No script in the page, no other host, nothing missing, each with its right type."""
    shop.send(record("E0001"))
    async with client.get(path, headers=BROWSER) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        sources = Sources(await answer.text())
    assert not sources.inline
    assert len(sources.found) > 4
    for source in sources.found:
        assert re.match(r"[/#](?!/)", source)
        if source.startswith("/"):
            async with client.get(source) as answer:
                assert answer.status == 200
                assert answer.content_type in {
                    "text/html",
                    "text/css",
                    "text/javascript",
                    "application/javascript",
                    "image/svg+xml",
                }


async def test_modules_import_only_what_is_there(client: aiohttp.ClientSession) -> None:
    """Relative names, so the digest in the path covers them; they may be kept for ever."""
    async with client.get("/", headers=BROWSER) as answer:
        found = re.search(r'src="(/static/\w+/)machines\.js"', await answer.text())
    assert found is not None
    wanted, read = {"machines.js", "machine.js", "connections.js"}, set[str]()
    while wanted - read:
        name = (wanted - read).pop()
        read.add(name)
        async with client.get(found[1] + name) as answer:
            assert answer.status == 200, name
            assert "immutable" in answer.headers["Cache-Control"]
            wanted |= set(re.findall(r'from "\./([\w.]+)"', await answer.text()))
    assert {"live.js", "charts.js", "spark.js"} <= read


@pytest.mark.parametrize(
    "path", ["/static/x/../../settings.py", "/static/charts/..%2f..%2fcore", "/etc/passwd"]
)
async def test_nothing_else_is_served(client: aiohttp.ClientSession, path: str) -> None:
    """No way leads out of the folders."""
    async with client.get(path) as answer:
        assert answer.status == 404


async def test_a_name_is_text_wherever_it_stands(shop: Shop, client: aiohttp.ClientSession) -> None:
    """Markup in it does nothing."""
    shop.send(record("<img src=x>\"'&"))
    async with client.get("/machines/%3Cimg%20src%3Dx%3E%22%27%26", headers=BROWSER) as answer:
        text = await answer.text()
    assert "<img" not in text
    assert "<h1>&lt;img src=x&gt;&#34;&#39;&amp;</h1>" in text


async def test_people_get_pages_and_programs_problems(client: aiohttp.ClientSession) -> None:
    """Where there is nothing; below /api always a problem."""
    for path, headers, media_type in (
        ("/nonsense", BROWSER, "text/html"),
        ("/nonsense", {}, "application/problem+json"),
        ("/api/v1/nonsense", BROWSER, "application/problem+json"),
        ("/machines/E0009", BROWSER, "text/html"),
    ):
        async with client.get(path, headers=headers) as answer:
            assert (answer.status, answer.content_type) == (404, media_type)


class DeadStore(MemoryReadingStore):
    """A store that can't be reached."""

    async def latest(self, device_id: str) -> None:
        """Not now."""
        raise StoreUnavailableError(device_id)


async def test_a_page_says_that_the_tables_can_not_be_read(shop: Shop) -> None:
    """503, and what to do."""
    shop.store = DeadStore(shop.tables)
    async with (
        shop.serve() as address,
        aiohttp.ClientSession(address.url) as client,
        client.get("/machines/E0001", headers=BROWSER) as answer,
    ):
        assert answer.status == 503
        assert "try again" in await answer.text()
