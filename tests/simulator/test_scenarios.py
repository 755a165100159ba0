"""Cutting changes packets, never the stream."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from simulator.options import Scenario, SimulateOptions
from simulator.scenarios import at_random, byte_by_byte, manner, whole


@given(st.binary(min_size=1, max_size=300), st.integers())
def test_pieces_make_up_the_packet(packet: bytes, seed: int) -> None:
    """However it is cut, and no piece is empty."""
    for cut in (whole, at_random, byte_by_byte):
        pieces = cut(packet, Random(seed))  # noqa: S311  # repeatable, not secret
        assert b"".join(pieces) == packet
        assert all(pieces)


def test_cuts_fall_everywhere() -> None:
    """Behind the first byte, before the last one, and between."""
    rng = Random(1)  # noqa: S311  # repeatable, not secret
    places = {len(at_random(b"E1,1#E2,2#", rng)[0]) for _ in range(1000)}
    assert places >= set(range(1, 10))


def test_every_scenario_has_a_manner() -> None:
    """None is forgotten."""
    for scenario in Scenario:
        assert manner(SimulateOptions(scenario=scenario.value))
