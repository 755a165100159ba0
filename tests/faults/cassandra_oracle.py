"""The promises of `oracle`, held against tables in Cassandra: every row is read and counted.

Rows and cursor are read with statements of its own, from `readings` as it lies in its partitions; no
directory that Headrace keeps is asked. The books are held against the rows by `storage.reconcile`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from storage.cassandra.connect import Connected
from storage.factory import open_books
from storage.reconcile import reconcile
from storage.settings import CassandraSettings, StorageSettings
from tests.faults import figures
from tests.faults.harness import Server, Settings
from tests.faults.oracle import check_fresh, compare, waiting_behind
from tests.faults.sender import Sender


def on_cassandra(tables: CassandraSettings) -> Settings:
    """The sections of a server's configuration that put its tables there."""
    keys = msgspec.to_builtins(tables)
    return {
        "storage": {"backend": "cassandra"},
        "storage.cassandra": {key: value for key, value in keys.items() if value is not None},
    }


@contextmanager
def reading(tables: CassandraSettings) -> Iterator[Connected]:
    """A session of the test's own."""
    with closing(Connected(tables)) as connected:
        connected.session.set_keyspace(tables.keyspace)
        yield connected


def stored(tables: CassandraSettings) -> dict[str, Counter[int]]:
    """How many rows there are of each running number, by device."""
    found: dict[str, Counter[int]] = {}
    with reading(tables) as session:
        for device, bucket in session.execute("SELECT DISTINCT device_id, bucket FROM readings"):
            rows = session.execute(
                "SELECT reading.spindle_speed_rpm FROM readings WHERE device_id = %s AND bucket = %s",
                device,
                bucket,
            )
            found.setdefault(str(device), Counter()).update(
                int(str(value).partition(".")[0]) for (value,) in rows
            )
    for name, numbers in found.items():
        figures.current().rows[tables.keyspace, name] = numbers.total()
    return found


def stored_numbers(tables: CassandraSettings, device: str) -> Counter[int]:
    """The same of one device."""
    return stored(tables).get(device, Counter())


def check_senders(tables: CassandraSettings, senders: Iterable[Sender]) -> None:
    """Nothing acknowledged is missing, and no row is there more often than it was sent."""
    found = stored(tables)
    for sender in senders:
        compare(tables.keyspace, sender, found.get(sender.device, Counter()))


def place_of_cursor(tables: CassandraSettings) -> tuple[int, int, int]:
    """The cursor's block, the one up to which all is durable, and how many numbers the tables know."""
    with reading(tables) as session:
        rows = session.execute("SELECT block, durable_block, next_record FROM nodes")
    assert len(rows) == 1, "one node, one journal"
    block, durable, numbers = (int(str(value or 0)) for value in rows[0])
    return block, durable, numbers


def numbers_taken(tables: CassandraSettings) -> dict[int, int]:
    """How many numbers the tables know of each node."""
    with reading(tables) as session:
        rows = session.execute("SELECT node, next_record FROM nodes")
        return {int(str(node)): int(str(numbers or 0)) for node, numbers in rows}


def check_books(tables: CassandraSettings) -> None:
    """The rows are as many as the books say, and the books account for every number ever taken."""
    settings = StorageSettings(backend="cassandra", cassandra=tables)
    with closing(open_books(settings)) as books:
        found = reconcile(books, waiting=None)
    figures.current().accounted[tables.keyspace] = found.received
    assert not found.findings, found.findings
    assert (found.readings, found.rejected_records) == (found.stored, found.rejected), (
        "rows against the ledger"
    )
    assert found.received == sum(numbers_taken(tables).values()), "the ledger against the numbers taken"


def check_waiting(journal: Path, tables: CassandraSettings) -> int:
    """What waits in the journal of a server that is gone joins the tables; how many records that are."""
    cursor, _, numbers = place_of_cursor(tables)
    return waiting_behind(journal, cursor, numbers)


def check_all(server: Server, tables: CassandraSettings, senders: Iterable[Sender]) -> None:
    """The whole oracle, for a running server whose tables have everything; it is stopped in the end."""
    check_senders(tables, senders)
    check_books(tables)
    check_fresh(server.ack_port, "fresh")
    server.wait_drained()
    assert stored_numbers(tables, "fresh") == dict.fromkeys(range(10), 1)
    assert server.stop() == 0
    assert check_waiting(server.journal, tables) == 0
    check_books(tables)
