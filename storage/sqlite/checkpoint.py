"""Emptying the write-ahead log, which readers can keep from being emptied.

After a commit that leaves a quarter of `wal_bytes` in the log, its pages are copied to the database as far
as no reader needs the older ones. That waits for nobody, and is enough as long as there are moments
without a reader. Where reads overlap all the time there are none: beside two that never paused the log
grew to 569 MB within 40 s. So when it reaches `wal_bytes` the writer waits, for 3 s at most, until the
reads of that moment are over; then the log begins anew. If one of them holds on for minutes the log grows
until it lets go, and the writer waits again only each time it has doubled.

SQLite waits for the mark of a read as it was when the wait began. A later read may take that mark over and
move it to the end of the log, where it is in nobody's way; beside reads that overlap it is then never free,
and was waited for in vain. So the 3 s are several waits, each of which looks anew.

A checkpoint that fails costs nothing but the room of the log: what is committed is durable in it.
"""

from contextlib import suppress
from typing import Final

import apsw

_PATIENCE_MS: Final = 300
_WAITS: Final = 10


class Checkpointer:
    """The hook that SQLite calls after each commit of a connection."""

    def __init__(self, wal_bytes: int, page_bytes: int, busy_ms: int) -> None:
        self._limit = wal_bytes // page_bytes
        self._busy_ms = busy_ms
        self._urgent = self._limit

    def __call__(self, connection: apsw.Connection, _name: str, pages: int) -> int:
        """Empty the log, of so many pages, as far as it is time to."""
        if pages < self._limit:
            self._urgent = self._limit
        with suppress(apsw.Error):
            if pages >= self._urgent:
                self._urgent = 2 * pages
                self._insist(connection)
            elif pages >= self._limit // 4:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        return apsw.SQLITE_OK

    def _insist(self, connection: apsw.Connection) -> None:
        connection.set_busy_timeout(_PATIENCE_MS)
        try:
            for _ in range(_WAITS):
                with suppress(apsw.BusyError):
                    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
                    return
        finally:
            connection.set_busy_timeout(self._busy_ms)
