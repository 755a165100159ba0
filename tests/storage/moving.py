"""An embedded database that is to be copied to a cluster, and what can be said of both."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

from parser.framing import Ending
from parser.parsed import ParsedBlock
from parser.verdicts import Accepted
from storage.base import MINUTE_MS, DamagedBlock, ReadingStore
from storage.cassandra.connect import Connected
from storage.cassandra.tables import use
from storage.copying import Copied, Step, copy_tables
from storage.reconcile import reconcile
from storage.settings import CassandraSettings, RejectQuota, SqliteSettings, StorageSettings
from tests.storage.building import STARTED, Machinery, closed, opened, record
from tests.storage.stores import CassandraStore, CheckedStore, SqliteStore

EVER = 1 << 62
DEVICES = ("E0001", "E0002", "~", "x" * 64)
HOUR_MS = 60 * MINUTE_MS
PAGE_ROWS = 8

Blocks = list[ParsedBlock | DamagedBlock]
Tell = Callable[[Step], None]


class Shop:
    """An embedded database that a server has written, and an empty cluster."""

    def __init__(self, folder: Path, quota: RejectQuota, cluster: CassandraSettings) -> None:
        self.machinery = Machinery(journal=uuid4().hex)
        self.source = SqliteStore(folder, quota)
        self.target = CassandraStore(folder, quota, cluster)
        self.storage = StorageSettings(
            sqlite=SqliteSettings(path=str(self.source.path)), cassandra=cluster, rejects=quota
        )
        self.write(self.source, self.life())

    @property
    def journal(self) -> str:
        """The journal of both."""
        return self.machinery.journal

    def life(self, first: int = 1) -> Blocks:
        """Some hours of five connections: readings, rejects, empty records, damage; one stays open."""
        block, damaged = self.machinery.block, self.machinery.damaged
        blocks: Blocks = [block(events=(STARTED,))]
        for number in range(first, first + 5):
            sent = b"".join(record(device, number + 0.5) for device in DEVICES[: number % 5 + 1])
            blocks.append(block([(number, sent * 3 + b"##" + b"bad#" * number)], events=(opened(number),)))
            blocks.append(block([(number, b"E0002,1,2,3,4,x#" + sent)], later_ms=MINUTE_MS // 2))
            blocks.append(damaged(2, later_ms=HOUR_MS))
            if number < first + 4:
                end = (closed(number, 500),) if number % 2 else ()
                ends = [(number, Ending.RESET)] if number % 2 else ()
                blocks.append(block([(number, b"E0001,1,")], events=end, ends=ends))
        blocks.append(block([(first + 4, record("E0001") + b"bad#")]))
        return blocks

    def write(self, store: CheckedStore, blocks: Blocks) -> None:
        """What the server's sink does."""
        with closing(store.writer()) as writer:
            claim = writer.claim(self.machinery.node, self.journal, adopt=False)
            writer.write(claim.cursor, blocks, self.journal)

    def copy(self, tell: Tell | None = None, *, keep_days: float | None = None) -> Copied:
        """Run the copy; the cluster is believed whatever it says."""
        storage = StorageSettings(
            sqlite=self.storage.sqlite,
            cassandra=self.storage.cassandra,
            rejects=self.storage.rejects,
            keep_days=keep_days,
        )
        return copy_tables(storage, self.journal, tell or ignore, page_rows=PAGE_ROWS, wait_s=0.0)

    def check(self) -> None:
        """Both say the same to whoever asks, and add up."""
        assert everything(self.target) == everything(self.source)
        assert findings(self.target) == []

    def check_claims(self) -> None:
        """Both let the journal go on from the same place."""
        claims = []
        for store in (self.source, self.target):
            with closing(store.writer()) as writer:
                claims.append(writer.claim(self.machinery.node, self.journal, adopt=False))
        assert claims[0] == claims[1]
        assert claims[0].cursor == self.machinery.cursor
        assert claims[0].next_record == claims[0].cursor_record == self.machinery.record


class Stopped(Exception):  # noqa: N818  # it is none
    """Somebody pressed Ctrl-C."""


def stops_at(step: int) -> Tell:
    """Stops a copy when it says so for this time."""
    left = iter(range(step - 1))

    def tell(_: Step) -> None:
        if next(left, None) is None:
            raise Stopped

    return tell


def forget_mark(shop: Shop) -> None:
    """Let the next copy begin at the beginning, on what is there already."""
    connected = use(Connected(shop.storage.cassandra))
    connected.execute("DELETE FROM headrace WHERE key = %s IF EXISTS", f"copy:{shop.journal}")
    connected.close()


def accept_one(store: CheckedStore) -> None:
    """The oldest reject that may be judged again is good now."""
    with closing(store.quarantine()) as quarantine:
        (rejected,) = quarantine.page(-1, 1)
        assert quarantine.accept(rejected, Accepted("E0001", (1.0, 2.0, 3.0, 4.0, 5.0)))


def findings(store: CheckedStore) -> list[str]:
    """What does not add up."""
    with closing(store.books()) as books:
        return reconcile(books, waiting=None).findings


def everything(store: CheckedStore) -> Any:
    """All that can be read: newest readings, histories, rejects, connections, ledger."""
    return asyncio.run(_of(store.reader()))


async def _of(reader: ReadingStore) -> Any:
    try:
        devices = await reader.devices(limit=99)
        names = [row.device_id for row in devices]
        return (
            devices,
            {name: await reader.history(name, 0, EVER, limit=999) for name in names},
            await reader.rejects(limit=99),
            await reader.connections(limit=99),
            await reader.ledger(0, EVER),
        )
    finally:
        await reader.close()


def ignore(_: object) -> None:
    """Say nothing of a step, or sleep not at all."""
