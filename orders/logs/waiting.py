"""Rows that wait to be written: a queue with a limit, which counts what it can't take.

Rows stay in it until they are written, so the limit holds for those under way as well, and a write that
failed loses nothing. Any thread may put rows in; one task takes them out.
"""

import threading
from collections import deque
from collections.abc import Callable
from itertools import islice

from orders.logs.base import LogRow


class WaitingRows:
    """At most `limit` rows, the oldest first; `on_loss` is called with how many were lost."""

    def __init__(self, limit: int, on_loss: Callable[[int], None]) -> None:
        self._limit = limit
        self._on_loss = on_loss
        self._rows: deque[LogRow] = deque()
        self._lock = threading.Lock()
        self.lost = 0
        """Rows that were not taken, or given up."""

        self.unsaid = 0
        """Those of them that no row has told of yet."""

    def __len__(self) -> int:
        """How many wait."""
        return len(self._rows)

    def put(self, row: LogRow) -> bool:
        """Take a row, or count it as lost where there is no room; whether nothing else waits."""
        with self._lock:
            if len(self._rows) >= self._limit:
                self._count(1)
                return False
            self._rows.append(row)
            return len(self._rows) == 1

    def put_beyond(self, row: LogRow) -> None:
        """Take a row, limit or not."""
        with self._lock:
            self._rows.append(row)

    def lose(self) -> None:
        """Count a row as lost that was never here."""
        with self._lock:
            self._count(1)

    def take_unsaid(self) -> int:
        """How many losses are to be told of; from now on they count as told."""
        with self._lock:
            unsaid, self.unsaid = self.unsaid, 0
            return unsaid

    def oldest(self, count: int) -> list[LogRow]:
        """So many of those that have waited longest; they stay."""
        with self._lock:
            return list(islice(self._rows, count))

    def remove(self, count: int, *, written: bool) -> None:
        """Let so many of the oldest go: written, or lost."""
        with self._lock:
            for _ in range(count):
                self._rows.popleft()
            if count and not written:
                self._count(count)

    def _count(self, lost: int) -> None:
        self.lost += lost
        self.unsaid += lost
        self._on_loss(lost)
