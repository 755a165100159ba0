"""What each scenario means for a connection and its bytes.

No scenario leaves open what becomes of a record: it changes how bytes come in packets and connections,
or makes nonsense whose verdict is known, so the truth stays exact.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import NamedTuple

from simulator.options import GARBAGE_SHARE, Scenario, SimulateOptions

Cutter = Callable[[bytes, Random], list[bytes]]
"""Cuts a packet into the pieces that are written one by one."""


def whole(packet: bytes, _rng: Random) -> list[bytes]:
    """Leave the packet as it is."""
    return [packet]


def at_random(packet: bytes, rng: Random) -> list[bytes]:
    """Cut at one to four random places, before and behind a delimiter as well as anywhere else."""
    places = sorted({rng.randrange(len(packet)) for _ in range(rng.randint(1, 4))} - {0})
    return [packet[a:b] for a, b in pairwise([0, *places, len(packet)])]


def byte_by_byte(packet: bytes, _rng: Random) -> list[bytes]:
    """Cut at every place."""
    return [packet[place : place + 1] for place in range(len(packet))]


class Manner(NamedTuple):
    """How connections behave."""

    cut: Cutter = whole
    gap_s: float = 0.0
    """Seconds between two pieces; 0 puts each into a turn of the loop of its own."""

    malformed: float = 0.0
    """Share of malformed records."""

    renew_s: float = math.inf
    """Seconds between two reconnects of all."""

    cuts_off: bool = False
    """Whether connections end within a record."""


def manner(options: SimulateOptions) -> Manner:
    """What the options' scenario means."""
    usual = Manner(malformed=options.malformed)
    return {
        Scenario.NORMAL: usual,
        Scenario.SPLIT: usual._replace(cut=at_random),
        Scenario.GARBAGE: usual._replace(malformed=options.malformed or GARBAGE_SHARE),
        Scenario.STORM: usual._replace(renew_s=options.storm_every_s),
        Scenario.SLOW: usual._replace(cut=byte_by_byte, gap_s=options.byte_gap_s),
        Scenario.CUT: usual._replace(cuts_off=True),
    }[Scenario(options.scenario)]
