"""Whether a figure that was sampled for hours stays where it is."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MIB = 1 << 20

_TELLING_H = 0.95
"""An hour, but for the samples at its ends."""


class Bound(NamedTuple):
    """How much a figure may grow in the second half of a run."""

    share: float
    """Of its median there."""

    least: float
    """This much is not too much where the second half is shorter than an hour."""

    per_hour: float = math.inf
    """More than this in each hour is too much where it isn't."""


BOUNDS = {
    "server memory": Bound(0.05, 8 * MIB, 2 * MIB),
    "sink memory": Bound(0.05, 8 * MIB),
    "server descriptors": Bound(0.0, 2),
    "sink descriptors": Bound(0.0, 2),
    "not yet durable": Bound(0.5, 8 * MIB),
    "journal": Bound(0.1, 128 * MIB),
    "log of the tables": Bound(0.1, 16 * MIB),
    "lag in blocks": Bound(0.5, 50),
}
"""By what is sampled. The journal goes up and down by whole segments of 64 MiB, and in a run of minutes the
middle of all slopes may be that of the way up: half more than a segment."""


class Drift(NamedTuple):
    """How a figure moved in the second half of a run."""

    growth: float
    allowed: float
    hours: float
    """How long that was."""

    @property
    def flat(self) -> bool:
        """Whether it stayed."""
        return self.growth <= self.allowed

    def __str__(self) -> str:
        """The growth and how much was allowed; bytes in MiB, after hours also how many in one."""
        if self.allowed >= MIB:
            grown = self.growth / MIB
            rate = f" ({grown / self.hours:+.1f} MiB/h)" if self.hours >= _TELLING_H else ""
            return f"{grown:+.1f} MiB of {self.allowed / MIB:.0f} allowed{rate}"
        return f"{self.growth:+.0f} of {self.allowed:.0f} allowed"


def drift(seconds: Sequence[float], values: Sequence[float], bound: Bound) -> Drift:
    """The slope of the second half (Theil and Sen: the median over all pairs) times its length.

    Raises:
        ValueError: fewer than four samples.
    """
    if len(values) < 4:
        raise ValueError(f"too few samples: {len(values)}")
    half = len(values) // 2
    times, figures = np.array(seconds[half:], float), np.array(values[half:], float)
    hours = float(times[-1] - times[0]) / 3600
    allowed = max(bound.share * float(np.median(figures)), bound.least)
    if hours >= _TELLING_H:
        allowed = min(allowed, bound.per_hour * hours)
    return Drift(float(_slope(times, figures)) * hours * 3600, allowed, hours)


def _slope(times: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Median slope of all pairs; as an outlier is in few of them, it doesn't move the median."""
    first, second = np.triu_indices(len(times), k=1)
    return float(np.median((values[second] - values[first]) / (times[second] - times[first])))
