"""A device's history in as many steps as a chart has room for.

An hour at 10 Hz is 36 000 readings; a screen has 400 to 2 000 pixels. Each step keeps the lowest, the
mean and the highest value of each field, so no peak is lost on the way to the screen.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from parser.settings import VALUES
from storage.base import Reading


class Band(msgspec.Struct, frozen=True):
    """One field, step by step."""

    low: list[float]
    mean: list[float]
    high: list[float]


class Trend(msgspec.Struct, frozen=True):
    """Steps in ascending order; steps without a reading are left out."""

    device_id: str
    start: int
    """The beginning of the first step, in milliseconds since 1970 UTC; later than asked for where
    more readings than `max_readings` would have had to be read."""

    end: int
    step_ms: float
    readings: int
    """How many readings went into it."""

    at: list[float]
    """The middle of each step, in milliseconds since 1970 UTC."""

    fields: dict[str, Band]


def make_trend(device_id: str, readings: Sequence[Reading], start: int, end: int, *, steps: int) -> Trend:
    """The trend of readings with start <= received_at < end, given newest first."""
    times = np.array([reading.received_at for reading in reversed(readings)], dtype=np.int64)
    step_ms = (end - start) / steps
    step = np.minimum((times - start) / step_ms, steps - 1).astype(np.int64)
    first = np.flatnonzero(np.diff(step, prepend=-1))
    at = start + (step[first] + 0.5) * step_ms
    fields = {name: _band(_column(readings, name), first) for name in VALUES}
    return Trend(device_id, start, end, step_ms, len(readings), at.tolist(), fields)


def _column(readings: Sequence[Reading], name: str) -> NDArray[np.float64]:
    return np.array([getattr(reading, name) for reading in reversed(readings)], dtype=np.float64)


def _band(values: NDArray[np.float64], first: NDArray[np.intp]) -> Band:
    """Reduce the values between one step's first place and the next one's."""
    if not first.size:
        return Band([], [], [])
    counts = np.diff(first, append=values.size)
    # Divided before they are summed up: the sum of two finite values may be infinite.
    mean = np.add.reduceat(values / counts.repeat(counts), first)
    low = np.minimum.reduceat(values, first)
    high = np.maximum.reduceat(values, first)
    return Band(low.tolist(), np.clip(mean, low, high).tolist(), high.tolist())
