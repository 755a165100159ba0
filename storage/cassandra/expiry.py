"""How long rows live: as long as they are to be kept, where Cassandra can count so far.

It refuses a life of more than 20 years, and one that ends after January 2038, as ends are seconds since
1970 in 31 bits. A row that is to live longer is written for ever, which is a life of 0: what deletes old rows
finds it when its time has come. All is counted anew at each write, as 2038 comes nearer.
"""

import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storage.cassandra.schema import EXPIRES_LATER_S

_LONGEST_S: Final = 20 * 365 * 86_400
_LAST_S: Final = (1 << 31) - 2
_SPARE_S: Final = 2 * EXPIRES_LATER_S
"""So much less, as what leads to rows outlives them, and the nodes' clocks may be ahead of ours."""


def most_s() -> int:
    """The longest life that a row can be given now, in seconds; below 0 where it is none any more."""
    return min(_LONGEST_S, _LAST_S - int(time.time())) - _SPARE_S


def countable_s(life_s: int) -> int:
    """This life, or 0, which is for ever, where Cassandra can't count it."""
    return life_s if life_s < most_s() else 0


def countable_each_s(lives_s: NDArray[np.int64]) -> NDArray[np.int32]:
    """The same of many lives; shape (n,) both."""
    return np.where(lives_s < most_s(), lives_s, 0).astype(np.int32)
