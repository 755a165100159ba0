"""The gate: whether machines are read from, and every reason why not.

Each reason has an owner that closes and opens it by its own high and low mark. Reading goes on when no
reason is left.
"""

from collections.abc import Callable


class Gate:
    """Open until somebody has a reason to close it."""

    def __init__(self, *, on_close: Callable[[], None], on_open: Callable[[], None]) -> None:
        """`on_close` and `on_open` are called when the first reason comes and the last one goes."""
        self._on_close = on_close
        self._on_open = on_open
        self._reasons: set[str] = set()

    @property
    def closed(self) -> bool:
        """Whether reading is paused."""
        return bool(self._reasons)

    @property
    def reasons(self) -> frozenset[str]:
        """Why."""
        return frozenset(self._reasons)

    def close(self, reason: str) -> None:
        """Have a reason; having it twice is having it once."""
        was_open = not self._reasons
        self._reasons.add(reason)
        if was_open:
            self._on_close()

    def open(self, reason: str) -> None:
        """Have it no more."""
        if reason in self._reasons:
            self._reasons.remove(reason)
            if not self._reasons:
                self._on_open()
