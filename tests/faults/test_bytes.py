"""Bytes that no machine should send: each record gets one verdict, and its neighbours are stored."""

import random
import socket

import pytest

from tests.faults import processes, wire
from tests.faults.figures import current
from tests.faults.harness import MIB, Server
from tests.faults.oracle import check_books, reading, stored_numbers
from tests.faults.sender import deliver, record

pytestmark = pytest.mark.fault

BAD_FIELDS = (
    b"", b" ", b"nan", b"NaN", b"inf", b"-Infinity", b"1e400", b"-1e400", b"0x10", b"1_000", b"1,5", b"--1",
    b"1e", b"e5", b".", b"+", b"\xff\xfe", b"\x00", b"1\x002", b"\xd9\xa3", b"1\r\n2", b'"1"', b"9" * 400,
)  # fmt: skip
BAD_RECORDS = (
    b"#", b"  #", b"\r\n#", b"\0#", b",#", b",,,,,#", b",,,,,,#", b"E1#", b"E1,1,2,3,4#", b"E1,1,2,3,4,5,6#",
    b"x" * 600 + b"#", b"\xc3\x28,1,2,3,4,5#", b"a" * 65 + b",1,2,3,4,5#", b"E 1\x7f,1,2,3,4,5#", b"\n\n#",
)  # fmt: skip


@pytest.mark.long(minutes=0.5)
def test_a_stream_without_a_delimiter_is_one_reject(server: Server, *, long_form: bool) -> None:
    """Memory stays bounded, the connection lives, and what follows the next delimiter is stored.

    64 MiB are sent, in the long form a GiB.
    """
    server.start()
    before = processes.resident_bytes(server.pid)
    peak = before
    with wire.current().connect(server.ack_port, 60) as machine:
        machine.sendall(record("E1", 1))
        for _ in range(1024 if long_form else 64):
            machine.sendall(b"x" * MIB)
            peak = max(peak, processes.resident_bytes(server.pid))
        machine.sendall(b"#" + record("E1", 2))
        machine.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: machine.recv(4096), b""))
    assert answer.endswith(b"ACK,3#")
    current().deliver(3, 3)
    assert peak - before < 48 * MIB, f"{(peak - before) / MIB:.0f} MiB for one record"
    server.wait_drained()
    assert stored_numbers(server.tables, "E1").keys() == {1, 2}
    with reading(server.tables) as tables:
        rejects = tables.execute("SELECT reason, length(raw) <= 512 FROM rejected_records").fetchall()
    assert rejects == [("oversize", 1)]
    check_books(server.tables)


def test_every_record_gets_one_verdict_and_its_neighbours_are_stored(server: Server) -> None:
    """Every kind of bad field and record, cut at every byte into packets, between good neighbours."""
    server.start()
    chance = random.Random(17)  # noqa: S311  # no secret; repeatable
    bad = [*BAD_RECORDS, *(_with_field(field, place) for field in BAD_FIELDS for place in range(6))]
    bad += [_noise(chance) for _ in range(400)]
    chance.shuffle(bad)
    stream = b"".join(record("good", number) + wrong for number, wrong in enumerate(bad))
    acknowledged = _deliver_in_pieces(server.ack_port, stream, chance)
    assert acknowledged == stream.count(b"#"), "one number for each delimiter"
    server.wait_drained()
    rows = stored_numbers(server.tables, "good")
    assert rows.keys() >= set(range(len(bad))), "a neighbour is missing"
    check_books(server.tables)
    with reading(server.tables) as tables:
        verdicts = tables.execute("SELECT stored + rejected + unkept + empty FROM connections").get
        shown = tables.execute("SELECT count(*) FROM readings WHERE abs(power_kw) > 1e308").get
    assert verdicts == acknowledged
    assert shown == 0, "an infinite number was stored"
    assert "Traceback" not in server.log.read_text()


def test_a_record_may_be_cut_at_every_byte(server: Server) -> None:
    """Wherever two packets meet, the records around it are whole."""
    server.start()
    whole = record("cut", 1) + record("cut", 2) + record("cut", 3)
    for place in range(len(whole) + 1):
        with wire.current().connect(server.ack_port) as machine:
            machine.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            machine.sendall(whole[:place])
            machine.sendall(whole[place:])
            machine.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: machine.recv(64), b""))
        assert answer.endswith(b"ACK,3#")
        current().deliver(3, 3)
    server.wait_drained()
    assert stored_numbers(server.tables, "cut") == dict.fromkeys((1, 2, 3), len(whole) + 1)
    check_books(server.tables)


def test_a_reset_makes_a_reject_of_the_tail_only(server: Server) -> None:
    """What stood after the last delimiter when the connection broke is `truncated`, never a row."""
    server.start()
    with wire.current().connect(server.ack_port) as machine:
        machine.sendall(record("E1", 1) + b"E1,35.2,2,2.5,3.7,38")
        assert machine.recv(64) == b"ACK,1#"
        wire.break_off(machine)
    deliver(server.ack_port, record("E2", 1), records=1)
    server.wait_drained()
    assert stored_numbers(server.tables, "E1").keys() == {1}
    with reading(server.tables) as tables:
        assert tables.execute("SELECT reason, raw FROM rejected_records").fetchall() == [
            ("truncated", b"E1,35.2,2,2.5,3.7,38")
        ]
    check_books(server.tables)


def _with_field(field: bytes, place: int) -> bytes:
    fields = [b"bad", b"1", b"2", b"3", b"4", b"5"]
    fields[place] = field
    return b",".join(fields) + b"#"


def _noise(chance: random.Random) -> bytes:
    """Up to 40 bytes, mostly those that mean something."""
    alphabet = b"0123456789.,,,,eE+- \t\r\n\0#\xff\xc3abc"
    return bytes(chance.choices(alphabet, k=chance.randrange(40))) + b"#"


def _deliver_in_pieces(port: int, stream: bytes, chance: random.Random) -> int:
    with wire.current().connect(port) as machine:
        machine.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        place = 0
        while place < len(stream):
            step = chance.choice((1, 2, 7, 60, 700))
            machine.sendall(stream[place : place + step])
            place += step
        machine.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: machine.recv(4096), b""))
    acknowledged = int(answer.split(b"#")[-2].removeprefix(b"ACK,"))
    current().deliver(stream.count(b"#"), acknowledged)
    return acknowledged
