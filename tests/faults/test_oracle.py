"""The oracle itself: a test that can't fail would prove nothing."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import apsw
import pytest

from tests.faults.figures import Figures
from tests.faults.harness import Server
from tests.faults.oracle import check_all, check_books, check_numbers, check_sender, check_waiting
from tests.faults.sender import Sender

pytestmark = pytest.mark.fault


@pytest.fixture
def sender(server: Server) -> Sender:
    """What one machine has sent to a server that is gone again."""
    server.start()
    sender = Sender("M", server.ack_port)
    sender.start()
    sender.wait_for_more(1_000)
    sender.stop()
    server.wait_drained()
    assert server.stop() == 0
    check_all(server.tables, [sender])
    return sender


def change(tables: Path, statement: str) -> None:
    """Change the tables behind everybody's back."""
    connection = apsw.Connection(str(tables))
    connection.execute(statement)
    assert connection.changes(), "nothing was changed"
    connection.close()


def test_it_sees_a_row_that_is_missing(server: Server, sender: Sender) -> None:
    """One of many."""
    change(server.tables, "DELETE FROM readings WHERE spindle_speed_rpm = 500")
    with pytest.raises(AssertionError, match="acknowledged and not stored"):
        check_sender(server.tables, sender)
    with pytest.raises(AssertionError, match="rows against the ledger"):
        check_books(server.tables)


@pytest.mark.parametrize("rows", [[1, 2], [1, 2, 2, 3], [1, 2, 3, 4], Counter({1: 1, 2: 1, 3: 2})], ids=str)
def test_it_sees_numbers_that_are_not_as_often_there_as_they_should(rows: Iterable[int]) -> None:
    """Too few, too many, and others."""
    check_numbers("M", [3, 2, 1], Counter((1, 2, 3)))
    with pytest.raises(AssertionError, match=r"M: of 1 numbers"):
        check_numbers("M", rows, range(1, 4))


def test_it_sees_a_row_that_is_there_twice(server: Server, sender: Sender, figures: Figures) -> None:
    """Also where the books were made to fit."""
    change(
        server.tables,
        "INSERT INTO readings SELECT device_id, received_at, seq + 1000000, spindle_temperature_c,"
        " spindle_speed_rpm, coolant_flow_lpm, power_kw, voltage_v FROM readings WHERE spindle_speed_rpm = 5",
    )
    with pytest.raises(AssertionError, match="more rows than were sent"):
        check_sender(server.tables, sender)
    change(server.tables, "UPDATE ledger SET stored = stored + 1")
    with pytest.raises(AssertionError):
        check_books(server.tables)
    assert figures.findings, "the table would show more rows than were sent"
    figures.rows.clear()  # or this test would fail by them


def test_it_sees_a_cursor_that_passed_a_block(server: Server, sender: Sender) -> None:
    """What the journal has behind the cursor must join what the tables have."""
    assert sender.acknowledged
    assert check_waiting(server.journal, server.tables) == 0
    change(server.tables, "UPDATE cursors SET block = block - 2")
    with pytest.raises(AssertionError, match="do not join"):
        check_waiting(server.journal, server.tables)
