"""The journal is lost, older than the tables, or wanted by two servers; or the clock jumped."""

import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import msgspec
import pytest

from ingest.clock import HOUR_US, ClockReading
from tests.faults.conftest import MakeServer
from tests.faults.harness import Server
from tests.faults.oracle import check_books, check_fresh, reading, stored_numbers
from tests.faults.sender import deliver, record
from tests.faults.waiting import wait_until

pytestmark = pytest.mark.fault

_FIRST = "SELECT min(seq), min(received_at) FROM readings WHERE device_id = ?"


def send(server: Server, device: str, count: int) -> None:
    """Deliver records 0 to count - 1 of a device, and wait until they are rows."""
    deliver(server.ack_port, b"".join(record(device, number) for number in range(count)), records=count)
    server.wait_drained()


def newest(tables: Path) -> tuple[int, int]:
    """The highest seq and the highest received_at of all rows."""
    with reading(tables) as connection:
        seq, at = connection.execute("SELECT max(seq), max(received_at) FROM readings").get
    return seq, at


def test_a_lost_journal_is_said_and_its_node_can_be_adopted(server: Server) -> None:
    """Numbers go on above the highest that the tables know."""
    _ran_before(server)
    shutil.rmtree(server.journal)
    status, said = server.refused()
    assert status == 2
    assert "adopt" in said
    assert "Traceback" not in said
    highest, _ = newest(server.tables)
    server.start("--adopt-node")
    send(server, "after", 100)
    with reading(server.tables) as tables:
        assert tables.execute("SELECT min(seq) FROM readings WHERE device_id = 'after'").get > highest
    assert server.stop() == 0
    server.start()
    send(server, "later", 100)
    check_books(server.tables)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_an_older_copy_of_the_tables_is_filled_from_what_the_journal_keeps(
    make_server: MakeServer, end: str, tmp_path: Path
) -> None:
    """With `keep_hours` nothing that came after the copy is missing, and nothing is there twice."""
    server = make_server({"journal": {"keep_hours": 1}})
    _ran_before(server)
    shutil.copyfile(server.tables, tmp_path / "copy.db")
    server.start()
    send(server, "between", 100)
    getattr(server, end)()
    _put_back(server, tmp_path / "copy.db")
    server.start()
    send(server, "after", 100)
    for device in ("before", "between", "after"):
        assert stored_numbers(server.tables, device) == dict.fromkeys(range(100), 1), device
    check_books(server.tables)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_an_older_copy_of_the_tables_never_hides_what_is_missing(
    server: Server, end: str, tmp_path: Path
) -> None:
    """What the journal has no more is reported as a gap, and no number is given a second time."""
    _ran_before(server)
    shutil.copyfile(server.tables, tmp_path / "copy.db")
    server.start()
    send(server, "between", 100)
    highest, latest = newest(server.tables)
    getattr(server, end)()
    _put_back(server, tmp_path / "copy.db")
    server.start()
    send(server, "after", 100)
    with reading(server.tables) as tables:
        seq, at = tables.execute(_FIRST, ("after",)).get
    assert seq > highest, "a number was given twice"
    assert at >= latest
    between = stored_numbers(server.tables, "between")
    assert len(between) == 100 or server.said_event("journal_gap"), "rows are missing, and nobody said so"


def test_tables_that_cannot_be_asked_at_start_cost_no_record(server: Server) -> None:
    """Another program has them locked: the server starts, counts on, and delivers when it may."""
    _ran_before(server)
    lock = apsw.Connection(str(server.tables))
    lock.execute("BEGIN IMMEDIATE")
    server.start()
    check_fresh(server.ack_port, "while", 100)
    lock.execute("ROLLBACK")
    lock.close()
    server.wait_drained()
    assert stored_numbers(server.tables, "while") == dict.fromkeys(range(100), 1)
    assert stored_numbers(server.tables, "before") == dict.fromkeys(range(100), 1)
    check_books(server.tables)


def test_a_journal_that_lost_its_end_and_goes_on_without_the_tables_loses_nothing_new(
    server: Server, tmp_path: Path
) -> None:
    """Its new blocks have numbers that the tables know: the sink skips none, a restart numbers them anew."""
    _ran_before(server)
    shutil.copytree(server.journal, tmp_path / "older")
    server.start()
    for _ in range(5):
        send(server, "lost", 100)
    server.kill()
    shutil.rmtree(server.journal)
    shutil.copytree(tmp_path / "older", server.journal)
    lock = apsw.Connection(str(server.tables))
    lock.execute("BEGIN IMMEDIATE")
    server.start()
    check_fresh(server.ack_port, "while", 100)
    lock.execute("ROLLBACK")
    lock.close()
    wait_until(lambda: "lost its end" in (server.ready().sinks[0].reason or ""), "the sink says it")
    check_fresh(server.ack_port, "waiting", 100)
    assert stored_numbers(server.tables, "while") == {}
    server.kill()
    server.start()
    assert server.said_event("journal_renumbered")
    send(server, "after", 100)
    for device in ("before", "while", "waiting", "after"):
        assert stored_numbers(server.tables, device) == dict.fromkeys(range(100), 1), device
    assert stored_numbers(server.tables, "lost") == dict.fromkeys(range(100), 5)
    check_books(server.tables)


def test_a_second_server_on_the_same_journal_is_refused(make_server: MakeServer) -> None:
    """It says so in one line, and the first one goes on."""
    first, second = make_server(), make_server(name="second")
    first.start()
    status, said = second.refused()
    assert status == 2
    assert str(first.journal) in said
    assert said.count("\n") == 1
    send(first, "on", 10)


def test_a_second_server_with_the_same_node_id_is_refused(make_server: MakeServer, tmp_path: Path) -> None:
    """Also with a journal of its own: one node is one journal's."""
    first = make_server()
    second = make_server({"journal": {"path": str(tmp_path / "other")}}, name="second")
    first.start()
    status, said = second.refused()
    assert status == 2
    assert "node_id" in said
    assert said.count("\n") == 1
    second.configure({"journal": {"path": str(tmp_path / "own")}, "ingest": {"node_id": 7}})
    second.start()
    send(second, "seven", 10)
    send(first, "zero", 10)
    check_books(first.tables)


@pytest.mark.parametrize(
    "jump_us", [-2 * HOUR_US, 87_600 * HOUR_US], ids=["two hours back", "ten years ahead"]
)
def test_a_clock_that_jumped_while_the_server_was_off_has_to_be_accepted(
    server: Server, jump_us: int
) -> None:
    """It is refused, and with --accept-clock seq and time still only grow."""
    server.start()
    send(server, "before", 100)
    server.kill()
    _rewrite_clocks(server, lambda clock: _set_back(clock, jump_us))
    status, said = server.refused()
    assert status == 2
    assert "--accept-clock" in said
    assert said.count("\n") == 1
    seq, at = newest(server.tables)
    server.start("--accept-clock")
    send(server, "after", 100)
    with reading(server.tables) as tables:
        later = tables.execute(
            "SELECT min(seq), min(received_at) FROM readings WHERE device_id = 'after'"
        ).get
    assert later[0] > seq
    assert later[1] >= at
    check_books(server.tables)


def _ran_before(server: Server) -> None:
    """It was up, stored what it was sent, and ended in order."""
    server.start()
    send(server, "before", 100)
    assert server.stop() == 0


def _set_back(clock: ClockReading, jump_us: int) -> ClockReading:
    assert clock.followed_us is not None
    return msgspec.structs.replace(
        clock, wall_us=clock.wall_us - jump_us, followed_us=clock.followed_us - jump_us
    )


def _put_back(server: Server, copy: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{server.tables}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(copy, server.tables)


def _rewrite_clocks(server: Server, change: Callable[[ClockReading], ClockReading]) -> None:
    """Change what the journal says about the clocks, as if ours had jumped since."""
    for path in server.journal.glob("*.db"):
        segment = apsw.Connection(str(path))
        clock = msgspec.msgpack.decode(segment.execute("SELECT clock FROM segment").get, type=ClockReading)
        segment.execute("UPDATE segment SET clock = ?", (msgspec.msgpack.encode(change(clock)),))
        segment.close()
