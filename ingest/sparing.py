"""Log lines about what strangers do: so many in ten seconds, and how often it happened beyond that.

Whoever can make a line appear can fill a disk with lines. The first ones are said at once, as they came;
what comes above that is counted, and the next line says how many there were and about whom it was last.
"""

from collections.abc import Callable
from typing import Final

import structlog

_EVERY_S: Final = 10.0

_log = structlog.get_logger("ingest")


class _Kind:
    """What is known of one kind of thing."""

    __slots__ = ("about", "left_out", "said", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self.said = 0
        self.left_out = 0
        self.about: dict[str, object] = {}


class SparingLog:
    """Says one event, at most so often for each kind of it."""

    def __init__(self, event: str, now: Callable[[], float], *, most: int = 1) -> None:
        """`now` is in seconds; `most` lines of a kind in ten of them."""
        self._event = event
        self._now = now
        self._most = most
        self._kinds: dict[str, _Kind] = {}

    def note(self, kind: str, **about: object) -> bool:
        """Say it, or only count it; whether it was said. There are only as many kinds as we name."""
        entry = self._kinds.setdefault(kind, _Kind())
        self._renew(entry)
        entry.about = about
        if entry.said >= self._most:
            entry.left_out += 1
            return False
        entry.said += 1
        _log.warning(self._event, times=1, **about)
        return True

    def flush(self) -> None:
        """Tell what was only counted, where its time is over; to be called every now and then."""
        for entry in self._kinds.values():
            self._renew(entry)

    def _renew(self, entry: _Kind) -> None:
        now = self._now()
        if now < entry.until:
            return
        entry.until, entry.said = now + _EVERY_S, 0
        if entry.left_out:
            entry.said = 1
            _log.warning(self._event, times=entry.left_out, **entry.about)
            entry.left_out = 0
