"""Stamps: the time of a block, which never runs backwards and doesn't follow a clock that jumps.

A stamp is max(wall clock, last stamp + 1 microsecond), also across restarts. While the process lives the
wall clock is held against the monotonic one: a difference of more than an hour is reported and not
followed, the monotonic clock carries the time on. Small steps (a time server's corrections) are followed.

At start there is only the journal to hold the wall clock against. Within one boot of the machine the
boot clock measures how long the server was off: a clock is right that agrees with what the wall clock said
then, or with the time that the server went by. Across boots nobody knows, so there only a clock behind the
last stamp, or a month ahead of it, is doubted.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from ingest.errors import ClockError

HOUR_US: Final = 3_600_000_000
MONTH_US: Final = 31 * 24 * HOUR_US

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class ClockReading(msgspec.Struct, frozen=True):
    """All that is known about the time at one moment; the journal keeps one with every segment."""

    wall_us: int
    """Microseconds since 1970 UTC."""

    since_boot_us: int
    boot: str
    followed_us: int | None = None
    """The time that a running server goes by, which differs where the wall clock has jumped."""

    @classmethod
    def now(cls) -> "ClockReading":
        """What this machine's clocks say."""
        since_boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
        return cls(time.time_ns() // 1000, since_boot, _boot_id())


@cache
def _boot_id() -> str:
    """Read once, at the start: later there may be no file descriptor for it, and the journal would fail."""
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""


def check_clock(now: ClockReading, then: ClockReading, last_us: int) -> None:
    """Doubt a wall clock at start that jumped since the journal was last written.

    Raises:
        ClockError: it did; the message says from when to when.
    """
    if now.boot and now.boot == then.boot:
        off_us = now.since_boot_us - then.since_boot_us
        known = [then.wall_us] if then.followed_us is None else [then.wall_us, then.followed_us]
        doubtful = all(abs(now.wall_us - us - off_us) > HOUR_US for us in known)
    else:
        doubtful = not last_us - HOUR_US <= now.wall_us <= last_us + MONTH_US
    if doubtful:
        raise ClockError(
            f"the clock says {_show(now.wall_us)}, but the journal was last written at {_show(last_us)}; "
            "set the clock right, or confirm it with: headrace serve --accept-clock"
        )


class StampClock:
    """Makes stamps."""

    def __init__(
        self,
        last_us: int = 0,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Continue above `last_us`; the wall clock is trusted as it is now."""
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._last_us = last_us
        self._offset_us = wall_ns() // 1000 - monotonic_ns() // 1000
        self.jump_us = 0
        """How far the wall clock is off while it is not followed; 0 while it is."""

    def stamp(self) -> int:
        """The next stamp, in microseconds since 1970 UTC."""
        monotonic = self._monotonic_ns() // 1000
        offset = self._wall_ns() // 1000 - monotonic
        jump = offset - self._offset_us
        if abs(jump) <= HOUR_US:
            self._offset_us, jump = offset, 0
        self.jump_us = jump
        self._last_us = max(monotonic + self._offset_us, self._last_us + 1)
        return self._last_us

    def reading(self) -> ClockReading:
        """All clocks at this moment, and the time that is followed."""
        followed_us = self._monotonic_ns() // 1000 + self._offset_us
        return msgspec.structs.replace(ClockReading.now(), followed_us=followed_us)


def _show(us: int) -> str:
    try:
        return datetime.fromtimestamp(us / 1e6, UTC).isoformat(" ", "seconds")
    except (OverflowError, ValueError):
        return f"{us} µs since 1970"
