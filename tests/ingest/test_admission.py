"""Who is let in: places are counted exactly, refusals have a reason, and a flood of them fills no log."""

import resource
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from structlog.typing import EventDict

from ingest import admission, descriptors
from ingest.admission import Admission
from ingest.buckets import Bucket
from ingest.metrics import IngestMetrics
from ingest.settings import IngestSettings


@dataclass(eq=False)
class Caller:
    """Somebody at the door."""

    host: str = "10.0.0.1"
    identity: str | None = None

    @property
    def address(self) -> tuple[str, int]:
        """As a socket says it."""
        return self.host, 40_000


class Door:
    """An admission with a clock of its own."""

    def __init__(self, settings: IngestSettings) -> None:
        self.now = 0.0
        self.metrics = IngestMetrics()
        self.admission = Admission(settings, metrics=self.metrics, now=lambda: self.now)

    def refused(self, why: str) -> float:
        """How many were, for this reason."""
        return float(self.metrics.refused.labels(why)._value.get())


@pytest.mark.parametrize(
    ("address", "among"),
    [
        ("::ffff:10.1.2.3", True),
        ("10.1.2.3", True),
        ("::ffff:11.1.2.3", False),
        ("fe80::1%eth0", True),
        ("", False),
    ],
)
def test_an_address_is_in_its_network_however_it_is_written(address: str, among: bool) -> None:  # noqa: FBT001  # a column
    """IPv4 also where it arrives on an IPv6 socket, link-local also with its interface."""
    door = Door(IngestSettings(allow=("10.0.0.0/8", "fe80::/10")))
    assert door.admission.allows(address) is among
    assert door.admission.enter(Caller(address)) is among
    assert door.refused("not_allowed") == (not among)


@pytest.mark.parametrize(
    ("network", "address", "among"),
    [
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "11.1.2.3", False),
        ("::ffff:10.1.2.3", "10.1.2.3", True),
        ("::ffff:0:0/96", "192.168.7.2", True),
        ("::ffff:0:0/96", "2001:db8::1", False),
        ("::/0", "192.168.7.2", False),
        ("::/0", "2001:db8::1", True),
    ],
)
def test_a_network_of_ipv4_is_one_however_it_is_written(network: str, address: str, among: bool) -> None:  # noqa: FBT001  # a column
    """As an IPv6 socket shows its addresses, too: who wrote it so would let nobody in."""
    assert Door(IngestSettings(allow=(network,))).admission.allows(address) is among


def test_places_are_given_back_once() -> None:
    door = Door(IngestSettings(max_connections=2))
    first, second, third = Caller(), Caller(), Caller()
    assert door.admission.enter(first)
    assert door.admission.enter(second)
    assert not door.admission.enter(third)
    door.admission.leave(third)
    door.admission.leave(first)
    door.admission.leave(first)
    assert door.admission.taken == 1
    assert door.admission.enter(third)
    assert not door.admission.enter(first)
    assert door.refused("too_many") == 2


def test_an_address_has_its_own_bound() -> None:
    """Others are still let in; the same address written as IPv6 is the same."""
    door = Door(IngestSettings(max_connections_per_address=2))
    assert door.admission.enter(Caller("10.0.0.1"))
    assert door.admission.enter(Caller("::ffff:10.0.0.1"))
    assert not door.admission.enter(Caller("10.0.0.1"))
    assert door.admission.enter(Caller("10.0.0.2"))
    assert door.refused("too_many_of_address") == 1


def test_a_network_of_64_bits_is_one_address() -> None:
    """Whoever holds one has 2^64 addresses; a neighbour's is another one."""
    door = Door(IngestSettings(max_connections_per_address=1))
    assert door.admission.enter(Caller("2001:db8:0:1::1"))
    assert not door.admission.enter(Caller("2001:db8:0:1:ffff::2"))
    assert door.admission.enter(Caller("2001:db8:0:2::1"))


def test_an_address_has_its_own_bound_of_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A /64 is one, others are let in, and a handshake that is over makes room, whatever became of it."""
    monkeypatch.setattr(admission, "_MOST_HANDSHAKES_OF_ADDRESS", 2)
    door = Door(IngestSettings())
    first, second, third = (Caller(f"2001:db8:0:1::{number}") for number in range(3))
    assert door.admission.enter(first, shakes_hands=True)
    assert door.admission.enter(second, shakes_hands=True)
    assert not door.admission.enter(third, shakes_hands=True)
    assert door.refused("too_many_handshakes") == 1
    assert door.admission.enter(Caller("2001:db8:0:2::1"), shakes_hands=True)
    door.admission.hands_shaken(first)
    door.admission.hands_shaken(first)
    assert door.admission.enter(third, shakes_hands=True)
    assert not door.admission.enter(Caller("2001:db8:0:1::4"), shakes_hands=True)
    door.admission.leave(second)
    assert door.admission.enter(Caller("2001:db8:0:1::5"), shakes_hands=True)
    assert door.admission.enter(Caller("2001:db8:0:1::6")), "who speaks no TLS has none to wait for"


def test_who_may_not_connect_takes_no_place_of_a_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is counted as what it is, also while all of these are taken."""
    monkeypatch.setattr(admission, "_MOST_HANDSHAKES", 1)
    door = Door(IngestSettings(allow=("10.0.0.0/8",)))
    assert not door.admission.enter(Caller("192.168.0.1"), shakes_hands=True)
    assert door.admission.enter(Caller("10.0.0.1"), shakes_hands=True)
    assert not door.admission.enter(Caller("192.168.0.1"), shakes_hands=True)
    assert not door.admission.enter(Caller("10.0.0.2"), shakes_hands=True)
    assert (door.refused("not_allowed"), door.refused("too_many_handshakes")) == (2, 1)


def test_no_address_alone_takes_all_places_of_handshakes() -> None:
    """Three quarters of them are for others; and many machines may have one address."""
    door = Door(IngestSettings())
    crowd = [Caller() for _ in range(1_000)]
    assert sum(door.admission.enter(caller, shakes_hands=True) for caller in crowd) == 500
    others = [Caller(f"10.0.1.{number % 4}") for number in range(2_000)]
    assert sum(door.admission.enter(caller, shakes_hands=True) for caller in others) == 1_500
    assert door.refused("too_many_handshakes") == 1_000


def test_an_identity_has_its_own_bound_wherever_it_comes_from() -> None:
    door = Door(IngestSettings(max_connections_per_identity=1))
    first, second = Caller("10.0.0.1", "E0001"), Caller("10.0.0.2", "E0001")
    for caller in (first, second):
        assert door.admission.enter(caller)
    assert door.admission.identify(first)
    assert not door.admission.identify(second)
    other, nobody = Caller(identity="E0002"), Caller()
    for caller in (other, nobody):
        assert door.admission.enter(caller)
        assert door.admission.identify(caller)
    door.admission.leave(second)
    door.admission.leave(first)
    third = Caller("10.0.0.3", "E0001")
    assert door.admission.enter(third)
    assert door.admission.identify(third)


def test_an_address_may_come_so_often_in_a_minute() -> None:
    """However short it stays; refusals cost it nothing, and others are let in."""
    door = Door(IngestSettings(max_connects_per_minute=3))
    for _ in range(3):
        caller = Caller("::ffff:10.0.0.1")
        assert door.admission.enter(caller)
        door.admission.leave(caller)
    for _ in range(10):
        assert not door.admission.enter(Caller("10.0.0.1"))
    assert door.refused("too_often") == 10
    assert door.admission.enter(Caller("10.0.0.2"))
    door.now = 20.0
    assert door.admission.enter(Caller("10.0.0.1"))
    assert not door.admission.enter(Caller("10.0.0.1"))
    door.admission.change(IngestSettings(max_connects_per_minute=1))
    assert door.admission.enter(Caller("10.0.0.1"))
    assert not door.admission.enter(Caller("10.0.0.1"))
    door.admission.change(IngestSettings())
    assert door.admission.enter(Caller("10.0.0.1"))


@given(st.integers(1, 20_000))
def test_as_many_as_in_a_minute_may_come_at_once(most: int) -> None:
    """To the last one."""
    door = Door(IngestSettings(max_connects_per_minute=most))
    bucket = Bucket(most / 60, 0.0, burst=most)
    assert bucket.spend(most, 0.0) == 0
    assert bucket.level(0.0) == 0
    assert door.admission.enter(Caller())
    assert door.admission._comings[b"10.0.0.1"].level(0.0) == most - 1


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 2)), max_size=60), st.integers(1, 10))
def test_in_any_minute_nobody_comes_more_often_than_twice_what_one_allows(
    steps: list[tuple[float, int]], most: int
) -> None:
    """And of who didn't come for a while nothing is kept."""
    door = Door(IngestSettings(max_connects_per_minute=most))
    let_in: list[tuple[float, int]] = []
    for rest, number in steps:
        door.now += rest
        if door.admission.enter(Caller(f"10.0.0.{number}")):
            let_in.append((door.now, number))
        door.admission.sweep()
        last_minute = Counter(who for when, who in let_in if when > door.now - 60)
        assert max(last_minute.values(), default=0) <= 2 * most
        assert len([who for _, who in let_in if who == number]) <= most * (1 + door.now / 60) + 1e-6
    door.now += 60.001
    door.admission.sweep()
    assert not door.admission._comings


@given(
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 7))),
    most=st.integers(1, 6),
    of_one=st.none() | st.integers(1, 3),
)
def test_places_agree_with_a_list_of_those_within(
    steps: list[tuple[bool, int]], most: int, of_one: int | None
) -> None:
    """Whoever comes and goes in whatever order, and nothing is kept of those who have gone."""
    door = Door(IngestSettings(max_connections=most, max_connections_per_address=of_one))
    callers = [Caller(f"10.0.0.{number % 3}") for number in range(8)]
    within: list[Caller] = []
    for comes, number in steps:
        caller = callers[number]
        if not comes:
            door.admission.leave(caller)
            within = [other for other in within if other is not caller]
        elif caller not in within:
            same = sum(other.host == caller.host for other in within)
            room = len(within) < most and (of_one is None or same < of_one)
            assert door.admission.enter(caller) is room
            within += [caller] if room else []
        assert door.admission.taken == len(within)
    for caller in within:
        door.admission.leave(caller)
    assert not door.admission._within._counts


def test_new_limits_count_for_those_who_come() -> None:
    """Who is within stays counted."""
    door = Door(IngestSettings(max_connections=3))
    callers = [Caller() for _ in range(3)]
    assert all(door.admission.enter(caller) for caller in callers)
    door.admission.change(IngestSettings(max_connections=2, allow=("10.0.0.0/8",)))
    door.admission.leave(callers[0])
    assert not door.admission.enter(Caller())
    door.admission.leave(callers[1])
    assert door.admission.enter(Caller())
    assert not door.admission.enter(Caller("192.168.0.1"))


def _refusals(lines: list[EventDict]) -> list[tuple[object, object]]:
    return [(line["reason"], line["times"]) for line in lines if line["event"] == "connection_refused"]


def test_a_flood_of_refusals_is_one_line_in_ten_seconds_for_each_reason() -> None:
    """The first is said at once; the next line says how many there were, also when nobody comes any more."""
    door = Door(IngestSettings(allow=("10.0.0.0/8",), max_connections=1))
    with capture_logs() as lines:
        assert door.admission.enter(Caller())
        for _ in range(1000):
            door.admission.enter(Caller("192.168.0.1"))
        door.admission.enter(Caller())
        door.admission.sweep()
        assert _refusals(lines) == [("not_allowed", 1), ("too_many", 1)]
        door.now = 11.0
        door.admission.sweep()
        door.now = 30.0
        door.admission.sweep()
        assert _refusals(lines)[2:] == [("not_allowed", 999)]
    assert all(line["event"] == "connection_refused" for line in lines), "an address stands in a field"
    assert lines[0]["peer"] == "192.168.0.1"
    assert Counter({"not_allowed": door.refused("not_allowed")}) == {"not_allowed": 1000}


def _limited(limit: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """A process with this soft and hard limit; all that it comes to."""
    limits = [limit]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    return limits


@pytest.mark.parametrize(
    ("limit", "wanted", "room"),
    [
        ((1024, 20_000), 10_000, 10_000),
        ((1024, 4096), 10_000, 4096 - descriptors.RESERVE),
        ((1024, 1024), 10_000, 512),
        ((64, 64), 10_000, 32),
        ((100_000, 100_000), 10_000, 10_000),
        ((1024, -1), 10_000, 10_000),
        ((-1, -1), 10_000, 10_000),
    ],
)
def test_connections_leave_descriptors_for_all_else(
    limit: tuple[int, int], wanted: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is raised as far as that goes; what isn't there is taken from the connections."""
    limits = _limited(limit, monkeypatch)
    assert descriptors.room_for(wanted) == room
    assert all(hard == limit[1] for _, hard in limits)
    assert limits == sorted(limits), "it is never lowered"


def test_fewer_connections_than_configured_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = _limited((1024, 1024), monkeypatch)
    with capture_logs() as lines:
        door = Door(IngestSettings())
    assert door.admission.most == 512
    assert limits == [(1024, 1024)]
    assert [(line["event"], line["possible"]) for line in lines] == [
        ("fewer_connections_than_configured", 512)
    ]
