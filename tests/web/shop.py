"""A shop floor in memory: blocks of records go into a store and to the live feed, as in the server."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
import prometheus_client
from litestar import Litestar

from parser.block import Block, Event, Opened, chunk_table
from parser.framing import Chunk, Ending
from parser.parsed import ParsedBlock
from parser.settings import Rules
from storage.base import Cursor
from storage.live import LiveFeed
from storage.memory import MemoryReadingStore, MemoryTables, MemoryTableWriter
from tests.web.counter import Counter
from web.app import create_app
from web.health import Readiness
from web.office import Office
from web.places import Cut
from web.server import Address, serve_http
from web.session import CookieMaker
from web.settings import HttpLimits, HttpSettings

STAMP_MS = 1_721_857_896_590
"""2024-07-24T21:51:36.590Z."""

NODE = 5
PEER = "10.0.0.7:5000"
JOURNAL = "journal"
DEADLINE_S = 20.0


class Shop:
    """What the machines of a test send, on its way into the store and to whoever watches."""

    def __init__(self, opened_at: int = STAMP_MS - 1) -> None:
        self.tables = MemoryTables()
        self.store = MemoryReadingStore(self.tables)
        self.feed = LiveFeed()
        self.registry = prometheus_client.CollectorRegistry()
        self.of_connections = prometheus_client.CollectorRegistry()
        """What is counted of the server that was begun last."""

        self.readiness = Readiness(ready=True)
        self.claimed_twice: set[str] = set()
        self._writer = MemoryTableWriter(self.tables)
        self._writer.claim(NODE, JOURNAL, adopt=False)
        self._cursor: Cursor | None = None
        self._next_record = 0
        self._stamp_us = 0
        self.send(b"", events=[Opened(1, PEER)], at=opened_at)

    def send(self, text: bytes, *, events: Sequence[Event] = (), at: int | None = None) -> ParsedBlock:
        """One block of whole records of connection 1, stored and published; at a time, or now."""
        stamp_us = at * 1_000 if at is not None else time.time_ns() // 1_000
        self._stamp_us = max(stamp_us, self._stamp_us + 1)
        pieces = [(1, Chunk(text, text.count(b"#"), 0, Ending.DELIMITER))] if text else []
        chunks, payload = chunk_table(pieces)
        number = self._cursor.block + 1 if self._cursor else 1
        block = Block(
            number, NODE, self._next_record, self._stamp_us, Rules(), tuple(events), chunks, payload
        )
        parsed = ParsedBlock.of(block)
        self._writer.write(self._cursor, [parsed], JOURNAL)
        self._cursor = Cursor(JOURNAL, number)
        self._next_record = block.next_record
        self.feed.publish(parsed)
        return parsed

    def app(self, office: Office, *, https: bool = False) -> Litestar:
        """The application over this shop."""
        return create_app(
            store=self.store,
            feed=self.feed,
            registry=self.registry,
            readiness=lambda: self.readiness,
            office=office,
            session_cookie=CookieMaker(secure=https, session_s=3_600),
            claimed_twice=lambda: self.claimed_twice,
        )

    def cuts(self) -> dict[Cut, float]:
        """Why the server that was begun last has ended connections, with how often."""
        name = "headrace_http_connections_cut_total"
        found = {why: self.of_connections.get_sample_value(name, {"why": why}) or 0.0 for why in Cut}
        return {why: times for why, times in found.items() if times}

    @asynccontextmanager
    async def serve(
        self,
        limits: HttpLimits | None = None,
        port: int = 0,
        *,
        counter: Counter | None = None,
        https: bool = False,
    ) -> AsyncIterator[Address]:
        """The application over this shop, in a real server, on a free port unless one is given.

        Without a counter for orders nobody has to log in, and no supplier is there.
        """
        counter = counter or Counter(login=False)
        async with counter.open() as office:
            app = self.app(office, https=https)
            self.of_connections = prometheus_client.CollectorRegistry()
            async with serve_http(
                app,
                HttpSettings(port=port),
                before_stop=self.feed.end,
                limits=limits,
                registry=self.of_connections,
            ) as address:
                yield address


def record(device: str, *values: float) -> bytes:
    """A record as a machine sends it."""
    return ",".join([device, *map(str, values or (35.2, 8000.0, 2.5, 3.7, 380.0))]).encode() + b"#"


def events_of(text: str) -> list[tuple[str, dict[str, object]]]:
    """Name and data of each event of an event stream."""
    events = []
    for part in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in part.splitlines() if ": " in line.lstrip(":"))
        if "data" in fields:
            events.append((fields["event"], msgspec.json.decode(fields["data"], type=dict[str, object])))
    return events


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until it holds; fail when it takes too long."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.01)
