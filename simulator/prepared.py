"""Records made ahead of time, so that sending them costs nothing but the system call.

The values are drawn, not lived through: in a block that goes out millions of times no machine has a
history. Everything about the block is known: how many of its records are valid, invalid and empty.
"""

from collections.abc import Sequence
from random import Random
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from simulator.garbage import ALL_KINDS, Kind, spoil
from simulator.wire import RECORD_END, Verdict, device_name, encode

_LOW: Final = np.array([18.0, 0.0, 0.0, 0.03, 365.0])
_HIGH: Final = np.array([90.0, 12_000.0, 10.0, 12.0, 385.0])
"""Of each value, in the order of the wire."""


class Prepared(msgspec.Struct, frozen=True):
    """A block of whole records."""

    payload: bytes
    records: int
    """Delimiters in the payload: valid + invalid + empty."""

    valid: int
    invalid: int
    empty: int

    def ends(self) -> NDArray[np.intp]:
        """Where records end in the payload: intp[records + 1], 0 first, then behind each delimiter."""
        delimiters = np.flatnonzero(np.frombuffer(self.payload, np.uint8) == RECORD_END[0])
        return np.concatenate([np.zeros(1, np.intp), delimiters + 1])


def prepare(
    devices: int, records: int, seed: int = 1, malformed: float = 0.0, kinds: Sequence[Kind] = ALL_KINDS
) -> Prepared:
    """Make a block of records, the devices taking turns.

    Args:
        devices: how many different ids.
        records: how many records, malformed ones included.
        seed: the same seed makes the same block.
        malformed: share of malformed records, 0 to 1, at random places.
        kinds: what is wrong with them, equally often.
    """
    chance = np.random.default_rng(seed)
    rows = chance.uniform(_LOW, _HIGH, (records, len(_LOW))).tolist()
    names = [device_name(index).encode() for index in range(devices)]
    block = encode((names[index % devices] for index in range(records)), map(tuple, rows))
    rng = Random(seed)  # noqa: S311  # repeatable, not secret
    counts = [records, 0, 0]
    for place in np.flatnonzero(chance.random(records) < malformed).tolist():
        kind = rng.choice(kinds)
        block[place] = spoil(block[place], kind, rng)
        counts[Verdict.VALID] -= 1
        counts[kind.verdict] += 1
    return Prepared(b"".join(block), records, *counts)
