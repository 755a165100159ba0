"""By when a machine has to have sent something; time in which we did not read from it doesn't count.

    idle_timeout  not a byte came for `idle_timeout_s`
    no_record     no whole record came within `first_record_timeout_s` of the connection; pauses for a share
                  count here, as they are its own doing
    slow_record   a later record was begun and is not whole after `record_timeout_s`

So neither silence nor a byte a second holds a connection that delivers nothing. Machines that send a line
break behind each record have begun nothing with it. Time in which this process stood still doesn't count
either, and what came meanwhile is read before anybody is judged; the listener sees to that.
"""

from typing import Final

from ingest.connection import Connection
from ingest.reasons import WhyClosed
from ingest.settings import IngestSettings

STANDSTILL_S: Final = 1.0
"""A loop that is busy has no timer come so late: this process stood still, or the whole machine."""


class Deadlines:
    """All of them at one moment, on the loop's clock."""

    __slots__ = ("_first", "_idle", "_record")

    def __init__(self, settings: IngestSettings, now: float) -> None:
        self._idle = now - settings.idle_timeout_s
        self._first = now - settings.first_record_timeout_s
        self._record = now - settings.record_timeout_s

    def missed(self, connection: Connection) -> WhyClosed | None:
        """Why this connection has to end, if it has to."""
        if not connection.waited_for:
            return None
        if not connection.delivered:
            if connection.begun < self._first:
                return WhyClosed.NO_RECORD
        elif connection.begun < self._record and connection.unfinished:
            return WhyClosed.SLOW_RECORD
        return WhyClosed.IDLE_TIMEOUT if connection.heard < self._idle and not connection.held else None
