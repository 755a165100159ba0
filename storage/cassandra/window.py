"""How many requests may be under way: more while the cluster answers well, fewer when it does not.

Additive up, multiplicative down, as TCP does. A request that was confirmed raises the limit by one for
each whole window of confirmed requests. An error halves it, and an answer that took far longer than the
quickest ones takes a tenth off: both once for each window, as all requests of a window meet the same
trouble. What counts as quick is forgotten slowly, so that a cluster that became slower for good is not
throttled for ever.

Pure: times come in as arguments.
"""

from typing import Final

FIRST: Final = 8.0
LEAST: Final = 1.0
_SLOW: Final = 3.0
"""So many times the quickest answers is slow."""

_SLOW_S: Final = 0.1
"""An answer below this is never slow: a small node with a short queue sleeps and wakes between requests, and
takes more of its processors for each row."""

_FORGETTING: Final = 1.002
_HALF: Final = 0.5
_TENTH_LESS: Final = 0.9


class Window:
    """The limit on requests under way."""

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._limit = min(FIRST, self._most)
        self._quickest_s = float("inf")
        self._untouched_until = 0.0

    @property
    def limit(self) -> int:
        """How many requests may be under way now, one at least."""
        return int(self._limit)

    def confirmed(self, now: float, seconds: float) -> None:
        """A request was confirmed after so many seconds."""
        self._quickest_s = min(self._quickest_s * _FORGETTING, seconds)
        if seconds > max(_SLOW_S, _SLOW * self._quickest_s):
            self._lower(now, seconds, _TENTH_LESS)
        else:
            self._limit = min(self._most, self._limit + 1.0 / self._limit)

    def failed(self, now: float, seconds: float) -> None:
        """A request failed, or nobody knows what became of it."""
        self._lower(now, seconds, _HALF)

    def _lower(self, now: float, seconds: float, factor: float) -> None:
        """Once for all requests that were under way together."""
        if now >= self._untouched_until:
            self._limit = max(LEAST, self._limit * factor)
            self._untouched_until = now + seconds
