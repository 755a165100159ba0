"""What has to be true of the tables after any fault: the rows themselves are counted, read only.

- What was acknowledged is there.
- A record that was sent once is one row at most.
- received = stored + rejected + unkept + empty + set aside + waiting, where stored and rejected are rows
  and what waits is blocks of the journal.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from tests.faults import figures
from tests.faults.sender import Sender, deliver, record

_SUMS = (
    "SELECT coalesce(sum(stored), 0), coalesce(sum(rejected), 0), coalesce(sum(unkept), 0),"
    " coalesce(sum(empty), 0)"
)

_GAPS = """SELECT node, minute FROM (
        SELECT *, lag(last_seq) OVER (PARTITION BY node ORDER BY minute) AS last FROM ledger
    ) WHERE first_seq <> last + 1"""


@contextmanager
def reading(path: Path) -> Iterator[apsw.Connection]:
    """The tables, opened as any other program would."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(10_000)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program writes to this database, and does not come to an end."""
    other = apsw.Connection(str(path))
    other.set_busy_timeout(5_000)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def stored_numbers(path: Path, device: str) -> Counter[int]:
    """How many rows there are of each running number of a device."""
    with reading(path) as tables:
        rows = tables.execute("SELECT spindle_speed_rpm FROM readings WHERE device_id = ?", (device,))
        found = Counter(int(number) for (number,) in rows)
    figures.current().rows[str(path), device] = found.total()
    return found


def check_numbers(device: str, rows: Iterable[int], wanted: Iterable[int]) -> None:
    """Each number is as often there as it is wanted; a Counter says how often, all else once.

    Said in few words: two large collections that differ keep pytest busy for minutes.
    """
    missing, excess = Counter(wanted), Counter(rows)
    missing.subtract(excess)
    off = {number: -lack for number, lack in missing.items() if lack}
    assert not off, f"{device}: of {len(off)} numbers so many too many or too few: {sorted(off.items())[:10]}"


def check_sender(path: Path, sender: Sender) -> None:
    """Nothing acknowledged is missing, and no row is there that was not sent, or more often than sent."""
    compare(str(path), sender, stored_numbers(path, sender.device))


def compare(tables: str, sender: Sender, rows: Counter[int]) -> None:
    """The same, for rows that were read already; `tables` says from where."""
    missing = sender.acknowledged - rows.keys()
    excess = rows - sender.sent
    figures.current().judge(
        tables,
        sender.device,
        sent=sender.sent.total(),
        acknowledged=len(sender.acknowledged),
        missing=len(missing),
        excess=excess.total(),
    )
    assert not missing, f"{sender.device}: {len(missing)} acknowledged and not stored: {sorted(missing)[:10]}"
    assert not excess, f"{sender.device}: more rows than were sent: {excess.most_common(10)}"


def check_books(path: Path) -> int:
    """The rows are as many as the books say, and the books account for every number ever taken.

    Returns:
        How many rows there are: to count hundreds of millions takes long.
    """
    with reading(path) as tables, tables:
        ledger: tuple[int, ...] = tables.execute(f"{_SUMS}, coalesce(sum(set_aside), 0) FROM ledger").get
        connections = tables.execute(f"{_SUMS} FROM connections").get
        rows = tables.execute("SELECT count(*) FROM readings").get
        rejects = tables.execute("SELECT count(*) FROM rejected_records").get
        numbers = tables.execute("SELECT coalesce(sum(next_record), 0) FROM nodes").get
        gaps = tables.execute(_GAPS).fetchall()
    figures.current().accounted[str(path)] = sum(ledger)
    assert (rows, rejects) == ledger[:2], "rows against the ledger"
    assert connections == ledger[:4], "connections against the ledger"
    assert sum(ledger) == numbers, "the ledger against the numbers taken"
    assert not gaps, "minutes of the ledger that do not join the one before"
    return int(rows)


def check_waiting(journal: Path, tables: Path) -> int:
    """What waits in the journal begins where the tables end, without a gap; how many records that are.

    Only for a journal whose server is gone.
    """
    with reading(tables) as books:
        cursor = books.execute("SELECT coalesce(max(block), 0) FROM cursors").get
        expected = books.execute("SELECT coalesce(sum(next_record), 0) FROM nodes").get
    return waiting_behind(journal, cursor, expected)


def waiting_behind(journal: Path, cursor: int, expected: int) -> int:
    """How many records the journal has behind the block `cursor`; they begin with number `expected`."""
    blocks: dict[int, tuple[int, int]] = {}
    for path in journal.glob("*.db"):
        with reading(path) as segment:
            rows = segment.execute("SELECT id, first_record, records FROM blocks WHERE id > ?", (cursor,))
            blocks.update({number: (first, records) for number, first, records in rows})
    assert sorted(blocks) == list(range(cursor + 1, cursor + 1 + len(blocks))), "blocks are missing"
    for number in sorted(blocks):
        assert blocks[number][0] == expected, f"the tables do not join block {number}"
        expected += blocks[number][1]
    return sum(records for _, records in blocks.values())


def check_fresh(port: int, device: str, count: int = 10) -> None:
    """Fresh records are acknowledged."""
    deliver(port, b"".join(record(device, number) for number in range(count)), records=count)


def check_all(path: Path, senders: Iterable[Sender]) -> None:
    """The whole oracle, for tables that have everything."""
    for sender in senders:
        check_sender(path, sender)
    check_books(path)
