"""Saying no more than so much a minute, so that a stranger fills no log; what was left out is counted."""

from typing import Final

_A_MINUTE: Final = 60
_MINUTE_MS: Final = 60_000


class Sparing:
    """Lets so many through in a minute."""

    def __init__(self, a_minute: int = _A_MINUTE) -> None:
        self._most = a_minute
        self._minute = -1
        self._let = 0
        self._left_out = 0

    def lets(self, now: int) -> bool:
        """Whether one more may be said; counts it in either case. `now` is in milliseconds."""
        if now // _MINUTE_MS != self._minute:
            self._minute, self._let = now // _MINUTE_MS, 0
        if self._let == self._most:
            self._left_out += 1
            return False
        self._let += 1
        return True

    def left_out(self) -> int:
        """How many were not said since this was asked last."""
        count, self._left_out = self._left_out, 0
        return count
