"""Devices that two connections send for: told of once in a while, and never for connecting anew."""

import pytest
import structlog

from ingest import claims
from ingest.claims import AT_ONCE, WINDOW_S, Claim, Claims
from ingest.metrics import IngestMetrics
from ingest.sink import SinkReport, SinkTask
from ingest.supervisor import Supervisor
from parser.block import Block, chunk_table
from parser.framing import Chunk, Ending
from parser.parsed import ParsedBlock
from storage.settings import StorageSettings
from tests.ingest.building import NODE, RULES

RECORD = b"%s,1,2,3,4,5#"


def heard(seen: Claims, *sent: tuple[int, bytes], at_s: float) -> list[Claim]:
    """What is claimed twice after a block in which these connections sent for these devices."""
    chunks = [(connection, Chunk(RECORD % device, 1, 0, Ending.DELIMITER)) for connection, device in sent]
    table, payload = chunk_table(chunks)
    seen.note(ParsedBlock.of(Block(1, NODE, 0, int(at_s * 1e6), RULES, (), table, payload)))
    return seen.take()


def test_a_machine_that_connects_anew_claims_nothing() -> None:
    """Also in one tick, and again and again."""
    seen = Claims()
    assert not heard(seen, (1, b"E1"), at_s=0)
    assert not heard(seen, (1, b"E1"), (2, b"E1"), at_s=1)
    for connection in range(3, 9):
        assert not heard(seen, (connection, b"E1"), at_s=connection)


def test_two_that_go_on_claim_it_once_in_a_while() -> None:
    """However they take turns; other devices have no part in it."""
    seen = Claims()
    assert not heard(seen, (1, b"E1"), (1, b"E2"), at_s=0)
    assert not heard(seen, (2, b"E1"), at_s=1)
    assert heard(seen, (1, b"E1"), (1, b"E2"), at_s=2) == [Claim("E1", (1, 2))]
    for second in range(3, WINDOW_S, 7):
        assert not heard(seen, (1, b"E1"), (2, b"E1"), at_s=second)
    again = heard(seen, (1, b"E1"), (2, b"E1"), at_s=WINDOW_S + 3)
    assert [claim.device_id for claim in again] == ["E1"]


def test_what_is_long_ago_counts_no_more() -> None:
    """A machine moved to another connection, and after the window back."""
    seen = Claims()
    heard(seen, (1, b"E1"), at_s=0)
    heard(seen, (2, b"E1"), at_s=1)
    assert not heard(seen, (1, b"E1"), at_s=2 + WINDOW_S)


def test_many_claims_come_a_hundred_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """And all that is remembered is bounded."""
    monkeypatch.setattr(claims, "MAX_DEVICES", 200)
    monkeypatch.setattr(claims, "MAX_TOLD", 150)
    seen = Claims()
    devices = [b"E%d" % number for number in range(200)]
    heard(seen, *((1, device) for device in devices), at_s=0)
    heard(seen, *((2, device) for device in devices), at_s=1)
    assert len(heard(seen, *((1, device) for device in devices), at_s=2)) == AT_ONCE
    assert len(seen.take()) == 50
    heard(seen, (1, b"another"), at_s=3)
    assert (len(seen._on), len(seen._told)) == (200, 150)


async def test_a_claim_is_counted_shown_and_logged() -> None:
    metrics = IngestMetrics()
    task = SinkTask("nowhere", "journal", NODE, StorageSettings())
    supervisor = Supervisor("tables", task, metrics, lambda _block: None)
    with structlog.testing.capture_logs() as lines:
        supervisor._hear(SinkReport(1, claims=[Claim("E1", (5, 7))]))
        supervisor._hear(SinkReport(2))
    assert metrics.claimed_twice.labels("tables")._value.get() == 1
    assert supervisor.statistics.claimed_twice == {"E1"}
    assert [line for line in lines if line["event"] == "device_claimed_twice"] == [
        {"event": "device_claimed_twice", "device": "E1", "first": 5, "second": 7, "log_level": "warning"}
    ]
    supervisor._claimed["E1"] = 0.0
    supervisor._hear(SinkReport(3))
    assert not supervisor.statistics.claimed_twice
