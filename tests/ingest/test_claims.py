"""Devices that two connections send for: told of once in a while, and never for connecting anew."""

import time
from collections.abc import Iterable

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from ingest import claims
from ingest.claims import AGAIN_S, AT_ONCE, WINDOW_S, Claims, Sighting, Sightings
from ingest.metrics import IngestMetrics
from ingest.sink import SinkReport, SinkTask
from ingest.supervisor import Supervisor
from parser.block import Block, chunk_table
from parser.framing import Chunk, Ending
from parser.parsed import ParsedBlock
from storage.settings import StorageSettings
from tests.ingest.building import NODE, RULES

RECORD = b"%s,1,2,3,4,5#"

Told = tuple[str, int, int]
"""Device and both connections."""


def seen(by: Sightings, *sent: tuple[int, bytes], at_s: float) -> list[Sighting]:
    """What is news after a block in which these connections sent for these devices."""
    chunks = [(connection, Chunk(RECORD % device, 1, 0, Ending.DELIMITER)) for connection, device in sent]
    table, payload = chunk_table(chunks)
    by.note(ParsedBlock.of(Block(1, NODE, 0, int(at_s * 1e6), RULES, (), table, payload)))
    return by.take()


class Server:
    """One judge, and the sinks of its workers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.claims = Claims(self.registry)
        self._sinks = [Sightings(), Sightings()]

    def block(self, *sent: tuple[int, bytes], at_s: float, worker: int = 0) -> list[Told]:
        """What is claimed twice after a block in which these connections sent for these devices."""
        return self.hear(seen(self._sinks[worker], *sent, at_s=at_s), worker)

    def hear(self, sightings: Iterable[Sighting], worker: int = 0) -> list[Told]:
        """What is told after these."""
        with structlog.testing.capture_logs() as lines:
            self.claims.heard(sightings, worker)
        return [(line["device"], line["first"], line["second"]) for line in lines]

    @property
    def counted(self) -> float | None:
        """What the metric says."""
        return self.registry.get_sample_value("headrace_devices_claimed_twice_total")


@pytest.fixture
def server() -> Server:
    """One that has heard nothing yet."""
    return Server()


def test_a_machine_that_connects_anew_claims_nothing(server: Server) -> None:
    """Also in one tick, and again and again."""
    assert not server.block((1, b"E1"), at_s=0)
    assert not server.block((1, b"E1"), (2, b"E1"), at_s=1)
    for connection in range(3, 9):
        assert not server.block((connection, b"E1"), at_s=connection)


def test_two_that_go_on_claim_it_once_in_a_while(server: Server) -> None:
    """However they take turns; other devices have no part in it."""
    assert not server.block((1, b"E1"), (1, b"E2"), at_s=0)
    assert not server.block((2, b"E1"), at_s=1)
    assert server.block((1, b"E1"), (1, b"E2"), at_s=2) == [("E1", 1, 2)]
    for second in range(3, WINDOW_S, 7):
        assert not server.block((1, b"E1"), (2, b"E1"), at_s=second)
    assert server.block((1, b"E1"), (2, b"E1"), at_s=WINDOW_S + 3) == [("E1", 1, 2)]
    assert server.counted == 2


def test_what_is_long_ago_counts_no_more(server: Server) -> None:
    """A machine moved to another connection, and after the window back."""
    server.block((1, b"E1"), at_s=0)
    server.block((2, b"E1"), at_s=1)
    assert not server.block((1, b"E1"), at_s=2 + WINDOW_S)


def test_one_that_has_given_up_is_not_told_of_for_ever(server: Server) -> None:
    server.block((1, b"E1"), (2, b"E1"), at_s=0)
    assert server.block((1, b"E1"), (2, b"E1"), at_s=1)
    for second in range(2, 5 * WINDOW_S):
        assert not server.block((1, b"E1"), at_s=second)


def test_a_device_that_stays_is_seen_again_after_a_while() -> None:
    by = Sightings()
    assert seen(by, (1, b"E1"), at_s=0) == [Sighting("E1", 1, 0)]
    assert not seen(by, (1, b"E1"), at_s=AGAIN_S - 1)
    assert seen(by, (1, b"E1"), at_s=AGAIN_S) == [Sighting("E1", 1, AGAIN_S * 1_000_000)]


def test_two_on_different_workers_are_seen_within_two_minutes(server: Server) -> None:
    """Neither sink knows of the other's connection, and neither sees a change."""
    told = [
        second
        for second in range(2 * AGAIN_S + 1)
        if server.block((1, b"E1"), at_s=second) + server.block((2, b"E1"), at_s=second + 0.5, worker=1)
    ]
    assert len(told) == 1
    assert server.claims.shown == {"E1"}


@given(st.data())
def test_nobody_who_connects_anew_is_told_of_in_whichever_order_sinks_report(data: st.DataObject) -> None:
    """Connections that begin when the one before has ended, on any worker, with clocks that differ a bit."""
    server = Server()
    sinks, reports = [Sightings(), Sightings()], [list[list[Sighting]](), list[list[Sighting]]()]
    begins = 10.0
    for connection in range(data.draw(st.integers(2, 6))):
        worker = data.draw(st.integers(0, 1))
        times = data.draw(st.lists(st.floats(0, 400), min_size=1, max_size=6))
        for after in sorted(times):
            at_s = begins + after - 0.9 * worker
            reports[worker].append(seen(sinks[worker], (connection, b"E1"), at_s=at_s))
        begins += max(times)
    while any(reports):
        worker = data.draw(st.sampled_from([worker for worker in (0, 1) if reports[worker]]))
        assert not server.hear(reports[worker].pop(0), worker)


@given(st.permutations(range(6)))
def test_two_at_a_time_are_told_of_in_whichever_order_sinks_report(order: list[int]) -> None:
    server = Server()
    seen_at = [
        (worker, Sighting("E1", 7 + worker, at * 1_000_000)) for at in (0, 60, 120) for worker in (0, 1)
    ]
    told = [server.hear([seen_at[place][1]], seen_at[place][0]) for place in order]
    assert [each for each in told if each] == [[("E1", 7, 8)]]


def test_all_that_is_remembered_is_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sightings come so many at a time, and what was too much is news when it comes again."""
    monkeypatch.setattr(claims, "MAX_DEVICES", 300)
    monkeypatch.setattr(claims, "MAX_TOLD", 150)
    devices = [(number // 40, b"E%d" % number) for number in range(300)]
    by = Sightings()
    for at_s, moved in enumerate((0, 100, 0)):
        there = [(connection + moved, device) for connection, device in devices]
        first, rest = seen(by, *there, at_s=at_s), by.take()
        assert (len(first), len(rest)) == (AT_ONCE, 300 - AT_ONCE)
        server.hear([*first, *rest])
    assert server.counted == 150
    server.block((1, b"another"), at_s=300)
    seen(by, (1, b"another"), at_s=300)
    assert [len(kept) for kept in (by._last, server.claims._spans, server.claims._told)] == [300, 300, 150]
    for connection in range(20):
        server.block((connection, b"another"), at_s=301 + connection)
    assert len(server.claims._spans["another"]) == 4


def test_who_makes_up_names_takes_no_more_than_a_share() -> None:
    """One connection with thousands of devices leaves room for the others of its block."""
    by = Sightings()
    made_up = [(1, b"X%d" % number) for number in range(3_000)]
    found = seen(by, *made_up, (2, b"E1"), at_s=0)
    assert Sighting("E1", 2, 0) in found
    assert len(found) < 100


async def test_what_a_sink_has_seen_goes_to_who_judges() -> None:
    heard: list[Sighting] = []
    task = SinkTask("nowhere", "journal", NODE, StorageSettings())
    supervisor = Supervisor("tables", task, IngestMetrics(), lambda _block: None, heard.extend)
    supervisor._hear(SinkReport(1, sightings=[Sighting("E1", 5, 1)]))
    supervisor._hear(SinkReport(2))
    assert heard == [Sighting("E1", 5, 1)]


def test_a_claim_is_shown_until_it_would_have_been_told_of_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    server.block((1, b"E1"), (2, b"E1"), at_s=0)
    server.block((1, b"E1"), (2, b"E1"), at_s=1)
    now = WINDOW_S + 1
    assert server.claims.shown == {"E1"}
    now = 2 * WINDOW_S
    assert not server.claims.shown
