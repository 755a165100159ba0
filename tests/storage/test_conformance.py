"""What every store promises, whatever it is made of."""

from collections.abc import AsyncIterator, Iterator

import pytest

from parser.block import Allowance, from_seq, to_seq
from parser.framing import Ending
from parser.parsed import ParsedBlock
from parser.verdicts import Accepted
from storage.base import (
    MINUTE_MS,
    SERVER_LOST,
    UNKNOWN_PEER,
    Claim,
    Cursor,
    DamagedBlock,
    Position,
    ReadingStore,
    TableWriter,
)
from storage.errors import CursorMovedError, NodeClaimedError
from tests.storage.building import JOURNAL, NOON, STARTED, Machinery, closed, opened, record
from tests.storage.stores import Store

BAD = b"nonsense#"
EVER = 1 << 62


@pytest.fixture
def writer(store: Store) -> Iterator[TableWriter]:
    writer = store.writer()
    writer.claim(3, JOURNAL, adopt=False)
    yield writer
    writer.close()


@pytest.fixture
async def reader(store: Store, writer: TableWriter) -> AsyncIterator[ReadingStore]:
    assert writer
    reader = store.reader()
    yield reader
    await reader.close()


async def test_rows_are_read_as_they_were_sent(writer: TableWriter, reader: ReadingStore) -> None:
    """Every value comes back exactly, under the block's time and the record's number."""
    values = (0.1, -273.15, 5e-324, 1.7976931348623157e308, 1e22)
    machinery = Machinery(record=41)
    writer.write(None, [machinery.block([(1, record("E0001", *values))])], JOURNAL)
    (row,) = await reader.history("E0001", 0, EVER, limit=10)
    assert (row.received_at, row.seq) == (NOON, to_seq(3, 41))
    found = (
        row.spindle_temperature_c,
        row.spindle_speed_rpm,
        row.coolant_flow_lpm,
        row.power_kw,
        row.voltage_v,
    )
    assert found == values


async def test_every_record_has_its_fate_counted(writer: TableWriter, reader: ReadingStore) -> None:
    """Readings, rejects, records that were not kept, empty ones and damaged blocks sum up."""
    machinery = Machinery()
    blocks: list[ParsedBlock | DamagedBlock] = [
        machinery.block([(1, record("E0001") + b"##" + BAD * 5)], events=(opened(1),)),
        machinery.damaged(7),
        machinery.block([(1, b"E0002,1,2,3,4,x#" + record("E0002"))]),
    ]
    written = writer.write(None, blocks, JOURNAL)
    assert (written.stored, written.rejected, written.unkept) == (2, {"fields": 5, "number": 1}, 2)
    assert (written.empty, written.set_aside) == (2, 7)
    (minute,) = await reader.ledger(0, EVER)
    assert (minute.node, minute.minute, minute.first_seq) == (3, NOON, to_seq(3, 0))
    assert (minute.stored, minute.rejected, minute.unkept, minute.empty) == (2, 4, 2, 2)
    assert minute.set_aside == 7
    assert minute.accounted == minute.last_seq - minute.first_seq + 1 == 17


async def test_minutes_join_without_a_gap(writer: TableWriter, reader: ReadingStore) -> None:
    """The first number of a minute is the one behind the last of the minute before it."""
    machinery = Machinery()
    for _ in range(7):
        cursor = machinery.cursor
        block = machinery.block([(1, record("E0001") * 3 + b"#")], later_ms=25_000)
        writer.write(cursor, [block], JOURNAL)
    minutes = await reader.ledger(0, EVER)
    assert [row.minute for row in minutes] == [NOON, NOON + MINUTE_MS, NOON + 2 * MINUTE_MS]
    assert [row.first_seq for row in minutes[1:]] == [row.last_seq + 1 for row in minutes[:-1]]
    assert await reader.ledger(NOON + 1, NOON + 2 * MINUTE_MS) == minutes[1:2]


async def test_a_block_is_written_once(writer: TableWriter, reader: ReadingStore) -> None:
    """Whoever writes a block again is told that the cursor has moved, and nothing changes."""
    machinery = Machinery()
    block = machinery.block([(1, record("E0001"))])
    writer.write(None, [block], JOURNAL)
    with pytest.raises(CursorMovedError):
        writer.write(None, [block], JOURNAL)
    with pytest.raises(CursorMovedError):
        writer.write(Cursor(JOURNAL, 7), [machinery.block([(1, record("E0001"))])], JOURNAL)
    assert len(await reader.history("E0001", 0, EVER, limit=10)) == 1
    assert sum(row.stored for row in await reader.ledger(0, EVER)) == 1


async def test_records_of_one_millisecond_are_all_kept(writer: TableWriter, reader: ReadingStore) -> None:
    """Equal records at an equal time differ in their number alone."""
    machinery = Machinery()
    writer.write(None, [machinery.block([(1, record("E0001") * 3)], later_ms=0)], JOURNAL)
    writer.write(Cursor(JOURNAL, 1), [machinery.block([(2, record("E0001"))])], JOURNAL)
    rows = await reader.history("E0001", NOON, NOON + 1, limit=10)
    assert [from_seq(row.seq) for row in rows] == [(3, 3), (3, 2), (3, 1), (3, 0)]


async def test_history_is_paged_without_gap_or_overlap(writer: TableWriter, reader: ReadingStore) -> None:
    """Pages follow each other from the newest row to the oldest, within start <= time < end."""
    machinery = Machinery()
    blocks = [machinery.block([(1, record("E0001") * 3 + record("E0002"))]) for _ in range(9)]
    writer.write(None, blocks, JOURNAL)
    whole = await reader.history("E0001", NOON + 20, NOON + 160, limit=100)
    assert len(whole) == 21
    assert [(row.received_at, row.seq) for row in whole] == sorted(
        ((row.received_at, row.seq) for row in whole), reverse=True
    )
    pages = []
    before: Position | None = None
    while page := await reader.history("E0001", NOON + 20, NOON + 160, limit=4, before=before):
        pages += page
        before = Position(page[-1].received_at, page[-1].seq)
    assert pages == whole
    assert await reader.history("E0001", NOON, NOON + 40, limit=9, before=Position(EVER, 0)) == whole[18:] + (
        await reader.history("E0001", NOON, NOON + 20, limit=9)
    )


async def test_a_device_nobody_heard_of_has_nothing(reader: ReadingStore) -> None:
    """No row is no error."""
    assert await reader.latest("E0001") is None
    assert await reader.history("E0001", 0, EVER, limit=10) == []
    assert await reader.devices(limit=10) == []
    assert await reader.rejects(device_id="E0001", limit=10) == []
    assert await reader.connections(limit=10) == []


async def test_devices_are_listed_with_their_newest_reading(
    writer: TableWriter, reader: ReadingStore
) -> None:
    """The list goes by name, in pages, and each row is the newest of its device."""
    machinery = Machinery()
    names = [f"E{number:04d}" for number in range(7)]
    for speed in (1.0, 2.0, 3.0):
        cursor = machinery.cursor
        sent = b"".join(record(name, 20.0, speed) for name in reversed(names))
        writer.write(cursor, [machinery.block([(1, sent)])], JOURNAL)
    rows = await reader.devices(limit=5)
    rows += await reader.devices(after=rows[-1].device_id, limit=5)
    assert [row.device_id for row in rows] == names
    assert {row.spindle_speed_rpm for row in rows} == {3.0}
    assert await reader.latest("E0004") == rows[4]


async def test_connections_are_followed_from_opening_to_closing(
    writer: TableWriter, reader: ReadingStore
) -> None:
    """A connection's row says who it was, what it sent and how it ended."""
    machinery = Machinery()
    sent = record("E0001") + b"#" + BAD * 5 + b"E0001,35.2,8000,2.5,3.7,380"
    blocks = [
        machinery.block([(8, sent), (9, BAD)], events=(opened(8), opened(9, "[::1]:9"))),
        machinery.block(ends=[(8, Ending.CLEAN)], events=(closed(8, len(sent)),)),
    ]
    writer.write(None, blocks, JOURNAL)
    second, first = await reader.connections(limit=10)
    assert (first.node, first.connection, first.opened_at, first.closed_at) == (3, 8, NOON, NOON + 20)
    assert (first.peer, first.identity, first.why, first.bytes) == ("10.0.0.7:50123", None, "eof", len(sent))
    assert (first.stored, first.rejected, first.unkept, first.empty, first.unterminated) == (2, 4, 1, 1, 1)
    assert (second.connection, second.closed_at, second.peer, second.rejected) == (9, None, "[::1]:9", 1)
    assert await reader.connections(before=9, limit=10) == [first]
    assert await reader.connections(limit=1) == [second]


async def test_a_start_closes_what_the_server_before_it_left_open(
    writer: TableWriter, reader: ReadingStore
) -> None:
    """Connections of this node that were open are lost with the server; others are not touched."""
    other = Machinery(node=4, journal="journal-b")
    writer.claim(4, "journal-b", adopt=False)
    writer.write(None, [other.block(events=(opened(5),))], "journal-b")
    writer.claim(3, JOURNAL, adopt=False)
    machinery = Machinery()
    blocks = [
        machinery.block([(6, record("E0001"))], events=(STARTED, opened(6), opened(7))),
        machinery.block([(6, record("E0001")), (8, record("E0001"))], events=(closed(7),)),
        machinery.block(events=(STARTED, opened(9))),
    ]
    writer.write(None, blocks, JOURNAL)
    rows = {row.connection: row for row in await reader.connections(limit=10)}
    assert {number: row.why for number, row in rows.items()} == {
        9: None,
        8: SERVER_LOST,
        7: "eof",
        6: SERVER_LOST,
        5: None,
    }
    assert (rows[6].closed_at, rows[6].stored) == (NOON + 40, 2)


async def test_a_connection_whose_opening_was_damaged_is_counted(
    writer: TableWriter, reader: ReadingStore
) -> None:
    """What it sends is booked under an unknown peer from its first readable block on."""
    machinery = Machinery()
    blocks: list[ParsedBlock | DamagedBlock] = [
        machinery.damaged(3),
        machinery.block([(8, record("E0001") + BAD)]),
    ]
    writer.write(None, blocks, JOURNAL)
    (row,) = await reader.connections(limit=10)
    assert (row.connection, row.peer, row.opened_at, row.stored) == (8, UNKNOWN_PEER, NOON + 20, 1)
    (reject,) = await reader.rejects(limit=10)
    assert reject.peer == UNKNOWN_PEER


async def test_rejects_are_kept_with_place_reason_and_bytes(
    writer: TableWriter, reader: ReadingStore
) -> None:
    """A reject can be found by its device or connection, and says where in the stream it stood."""
    machinery = Machinery()
    first = machinery.block([(8, record("E0001"))], events=(opened(8),))
    second = machinery.block([(9, b"\x00\xff\x00'#"), (8, b"E0002,1,2,3,4,5V#" + BAD)])
    writer.write(None, [first, second], JOURNAL)
    rows = await reader.rejects(limit=10)
    assert [row.seq for row in rows] == [to_seq(3, 3), to_seq(3, 2), to_seq(3, 1)]
    assert [row.reason for row in rows] == ["fields", "number", "control"]
    assert (rows[1].field, rows[1].device_id, rows[1].raw) == ("voltage_v", "E0002", b"E0002,1,2,3,4,5V")
    assert (rows[1].place, rows[1].peer) == (len(record("E0001")), "10.0.0.7:50123")
    assert rows[2].raw.strip(b"\x00") == b"\xff\x00'"
    assert await reader.rejects(connection=8, limit=10) == rows[:2]
    assert await reader.rejects(device_id="E0002", limit=10) == rows[1:2]
    assert await reader.rejects(device_id="E0002", connection=9, limit=10) == []
    assert await reader.rejects(before=rows[0].seq, limit=1) == rows[1:2]


async def test_a_flood_of_rejects_is_counted_and_not_kept(
    store: Store, writer: TableWriter, reader: ReadingStore
) -> None:
    """Kept are 4 of a connection and 6 of all in a minute, and 9 rows; a restart changes nothing."""
    machinery = Machinery()
    writer.write(None, [machinery.block([(1, BAD * 3), (2, BAD)])], JOURNAL)
    writer.close()
    again = store.writer()
    again.claim(3, JOURNAL, adopt=False)
    written = [
        again.write(machinery.cursor, [machinery.block([(1, BAD * 3), (2, BAD * 3)])], JOURNAL),
        again.write(
            machinery.cursor,
            [machinery.block([(3, BAD)], later_ms=MINUTE_MS), machinery.block([(1, BAD * 9), (2, BAD)])],
            JOURNAL,
        ),
    ]
    assert [(step.rejected, step.unkept) for step in written] == [({"fields": 6}, 4), ({"fields": 11}, 8)]
    again.close()
    rows = await reader.rejects(limit=100)
    assert [row.connection for row in rows] == [1, 1, 1, 2, 1, 2, 1, 1, 1]
    totals = {row.connection: (row.rejected, row.unkept) for row in await reader.connections(limit=10)}
    assert totals == {1: (7, 8), 2: (2, 3), 3: (0, 1)}
    assert [(row.rejected, row.unkept) for row in await reader.ledger(0, EVER)] == [(6, 5), (3, 7)]


async def test_a_node_belongs_to_one_journal(store: Store, writer: TableWriter) -> None:
    """A second claimant is refused; who adopts the node begins anew, above every number."""
    machinery = Machinery(record=10)
    writer.write(None, [machinery.block([(1, record("E0001") * 5)]), machinery.damaged(4)], JOURNAL)
    other = store.writer()
    with pytest.raises(NodeClaimedError):
        other.claim(3, "journal-b", adopt=False)
    assert other.claim(4, "journal-b", adopt=False) == Claim(None, 0)
    assert other.claim(3, "journal-b", adopt=True) == Claim(None, 19)
    with pytest.raises(NodeClaimedError):
        writer.write(machinery.cursor, [machinery.block()], JOURNAL)
    new = Machinery(journal="journal-b", record=19)
    other.write(None, [new.block([(1, record("E0001"))])], "journal-b")
    assert other.claim(3, "journal-b", adopt=False) == Claim(Cursor("journal-b", 1), 20, 20, 1)
    other.close()


async def test_who_claimed_nothing_writes_nothing(store: Store) -> None:
    """Writing begins with a claim."""
    writer = store.writer()
    with pytest.raises(NodeClaimedError):
        writer.write(None, [Machinery().block([(1, record("E0001"))])], JOURNAL)
    writer.close()


async def test_purging_forgets_whole_minutes(writer: TableWriter, reader: ReadingStore) -> None:
    """What is older than the minute goes from every table; the numbers go on as they were."""
    machinery = Machinery()
    for number in range(6):
        cursor = machinery.cursor
        sent = record("E0001") * 3 + BAD + record(f"F{number}")
        events = (opened(number), closed(number, len(sent)))
        block = machinery.block([(number, sent)], events=events, later_ms=MINUTE_MS // 2)
        writer.write(cursor, [block], JOURNAL)
    edge = NOON + 2 * MINUTE_MS
    while writer.purge(edge + 59_999):
        pass
    assert {row.received_at for row in await reader.history("E0001", 0, EVER, limit=99)} == {
        edge,
        edge + MINUTE_MS // 2,
    }
    assert [row.device_id for row in await reader.devices(limit=99)] == ["E0001", "F4", "F5"]
    assert [row.connection for row in await reader.rejects(limit=99)] == [5, 4]
    assert [row.connection for row in await reader.connections(limit=99)] == [5, 4]
    assert [row.minute for row in await reader.ledger(0, EVER)] == [edge]
    assert writer.claim(3, JOURNAL, adopt=False) == Claim(
        machinery.cursor, machinery.record, machinery.record, machinery.next_id - 1
    )


async def test_a_reject_that_is_accepted_becomes_a_row(
    store: Store, writer: TableWriter, reader: ReadingStore
) -> None:
    """It keeps its number and time, changes sides in the books, and is accepted once."""
    machinery = Machinery()
    late = machinery.block([(1, record("E0001") + b"E0001,1,2,3,4,5V#")], events=(opened(1),))
    writer.write(None, [late, machinery.block([(1, record("E0001"))])], JOURNAL)
    quarantine = store.quarantine()
    (reject,) = quarantine.page(0, 10)
    accepted = Accepted("E0001", (1.0, 2.0, 3.0, 4.0, 5.0))
    assert quarantine.accept(reject, accepted)
    assert not quarantine.accept(reject, accepted)
    assert quarantine.page(0, 10) == []
    quarantine.close()
    rows = await reader.history("E0001", 0, EVER, limit=9)
    assert [from_seq(row.seq)[1] for row in rows] == [2, 1, 0]
    assert (rows[1].seq, rows[1].received_at, rows[1].voltage_v) == (reject.seq, NOON, 5.0)
    assert await reader.latest("E0001") == rows[0]
    (minute,) = await reader.ledger(0, EVER)
    assert (minute.stored, minute.rejected) == (3, 0)
    (connection,) = await reader.connections(limit=9)
    assert (connection.stored, connection.rejected) == (3, 0)


async def test_what_was_cut_off_is_never_judged_again(store: Store, writer: TableWriter) -> None:
    """Truncated and over-long records are not the records that were meant."""
    machinery = Machinery()
    block = machinery.block([(1, b"x" * 600 + b"#"), (2, BAD + b"E0001,1,2,3,4,5")], ends=[(2, Ending.RESET)])
    written = writer.write(None, [block], JOURNAL)
    assert written.rejected == {"oversize": 1, "fields": 1, "truncated": 1}
    quarantine = store.quarantine()
    page = quarantine.page(0, 10)
    assert [row.reason for row in page] == ["fields"]
    assert quarantine.page(page[0].seq, 10) == []
    quarantine.close()


async def test_rejects_are_judged_page_by_page(store: Store, writer: TableWriter) -> None:
    """Whatever lies between them, over minutes and days; however small the pages are."""
    machinery = Machinery()
    for number in range(4):
        cursor, too_long = machinery.cursor, b"x" * 600 + b"#"
        later = 86_400_000 if number == 1 else MINUTE_MS
        sent = BAD + too_long if number % 2 else too_long + BAD
        writer.write(cursor, [machinery.block([(number, sent)], later_ms=later)], JOURNAL)
    quarantine = store.quarantine()
    whole = [row.seq for row in quarantine.page(-1, 99)]
    assert (len(whole), whole) == (4, sorted(whole))
    for size in (1, 2, 3, 4):
        found: list[int] = []
        while page := quarantine.page(found[-1] if found else -1, size):
            assert len(page) <= size
            found += [row.seq for row in page]
        assert found == whole
    quarantine.close()


async def test_a_device_of_many_nodes_is_listed_once_with_its_newest_reading(
    store: Store, reader: ReadingStore
) -> None:
    """Whichever of its nodes heard it last, and however small the page is."""
    for node, speed in ((4, 1.0), (5, 2.0), (6, 4.0), (7, 3.0)):
        writer = store.writer()
        writer.claim(node, f"journal-{node}", adopt=False)
        machinery = Machinery(node=node, journal=f"journal-{node}", at=NOON + int(speed) * 1000)
        sent = record("E0001", speed) + (record("E0002", speed) if node == 5 else b"")
        writer.write(None, [machinery.block([(1, sent)])], machinery.journal)
        writer.close()
    for limit in (1, 2, 3, 9):
        rows = await reader.devices(limit=limit)
        named = [(row.device_id, row.spindle_temperature_c) for row in rows]
        assert named == [("E0001", 4.0), ("E0002", 2.0)][:limit]


async def test_who_sent_for_another_device_is_never_judged_again(store: Store, writer: TableWriter) -> None:
    """The reject is kept with its device and its bytes, and no replay makes it good."""
    block = Machinery().block(
        [(1, b"E0001,1,2,3,4,5#E0002,1,2,3,4,5#")], allowed=(Allowance((1,), ("E0001",)),)
    )
    written = writer.write(None, [block], JOURNAL)
    assert (written.stored, written.rejected) == (1, {"wrong_identity": 1})
    quarantine = store.quarantine()
    assert quarantine.page(0, 10) == []
    quarantine.close()
