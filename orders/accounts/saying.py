"""What goes to the log: through what, and how much of it.

A wrong password is always said: the throttle lets through no more of them than a log can take. What costs
nothing to refuse, such as a token that is none, is said a bounded number of times a minute, and what was left
out is counted.
"""

from typing import Final, Protocol

_A_MINUTE: Final = 60
_MINUTE_MS: Final = 60_000


class Log(Protocol):
    """What is needed of a structlog logger: a message, and what belongs to it by name."""

    def info(self, message: str, /, **info: str) -> object:
        """Something routine."""
        ...

    def warning(self, message: str, /, **info: str) -> object:
        """Something that should not have been tried."""
        ...


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

    def left_out(self) -> dict[str, str]:
        """How many were not said since this was asked last; nothing where there were none."""
        count, self._left_out = self._left_out, 0
        return {"left_out": str(count)} if count else {}
