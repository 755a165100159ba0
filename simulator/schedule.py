"""Pacing: when each device owes its next record.

Device i of n owes record k (both from 0) at (k + i / n) / rate seconds after the start: each keeps its
own pace, and together they are spread evenly. Deadlines are computed, never added up, so that nothing
drifts and a duration of t seconds makes exactly t * rate records of each device.

A device that could not send for a while catches up, but only what fell into the last `max_behind_s`:
what is older is let go, and counted. So a stall is followed by a burst of a known size.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulator.machine import Indices

MAX_BEHIND_S: Final = 1.0


class Schedule:
    """The deadlines of a fleet; time is seconds since the start, and comes from outside."""

    def __init__(self, devices: int, rate_hz: float, *, max_behind_s: float = MAX_BEHIND_S) -> None:
        """Plan for this many devices.

        Args:
            devices: how many.
            rate_hz: records per second of each device.
            max_behind_s: how much a device catches up after a stall.
        """
        self._rate_hz = rate_hz
        self._phase = np.arange(devices) / devices
        self._turn = np.zeros(devices, np.int64)
        self._max_turns = max(1, math.floor(max_behind_s * rate_hz))
        self.slipped = 0
        """Records that were never made, as their time was long over."""

    def due(self, now_s: float, ready: NDArray[np.bool_]) -> Indices:
        """Devices that owe a record, and now give one; ask again until there are none.

        Args:
            now_s: the time.
            ready: bool[devices], which can send.

        Returns:
            intp[n], indices of devices, in order of index
        """
        which = np.flatnonzero(ready & (self._deadlines() <= now_s))
        owed = np.floor(now_s * self._rate_hz - self._phase[which]).astype(np.int64) - self._turn[which] + 1
        late = np.maximum(owed - self._max_turns, 0)
        self.slipped += int(late.sum())
        self._turn[which] += late + 1
        return which

    def next_s(self, ready: NDArray[np.bool_]) -> float:
        """When one of the devices that can send owes something; infinite if none can."""
        return float(self._deadlines().min(where=ready, initial=math.inf))

    def _deadlines(self) -> NDArray[np.float64]:
        return (self._turn + self._phase) / self._rate_hz
