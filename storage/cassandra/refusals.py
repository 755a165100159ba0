"""Finding the rows that the database will never take, while it takes their neighbours.

A batch that was refused is cut into pieces until the row that is to blame stands alone: in eight, as two
would ask twice as often where a whole partition is refused, and no less where one row of 500 is. A reading
that is refused alone is set aside with the reason. What makes a whole table refuse (it was altered or
dropped) is nobody's row's fault: the tables are looked at before anything is set aside, and if they are not
as they were made, the writer waits.

Only readings are ever set aside. A batch of newest rows or directories may have been too large as well, and
is cut likewise; but without one of these rows what is stored is not found, so a single one that is refused
ends the write, as does anything else: the writer waits, and says why. So does a guardrail of the cluster
(a disk that fills): it passes, and the row is as good as any.

A machine whose rows are refused may have thousands of them in a backlog, and must not stop all others; so
how many are set aside is bounded only where they are more than half of all. Pieces are tried a few batches
at a time, down to single rows: where everything is refused, that shows without trying everything.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from storage.cassandra.encoding import READINGS, Batch
from storage.cassandra.flight import Flight, Refused
from storage.cassandra.meaning import is_guardrail, meaning, shown
from storage.errors import StorageError
from storage.settings import CassandraSettings

_PARTS: Final = 8
_AT_ONCE: Final = 64
"""Refused batches that are cut and tried together."""

_MOST: Final = 1_000
"""More rows refused in one write, and more than half of it, are trouble of another kind."""


class Refusals:
    """What became of one write's batches that were refused at first."""

    def __init__(self, flight: Flight, settings: CassandraSettings, rows: int) -> None:
        """`rows` is how many readings were to be written in all."""
        self._flight = flight
        self._settings = settings
        self._most = max(_MOST, rows // 2)
        self.aside: dict[int, str] = {}
        """Why, by the place of the row."""

    def narrow(self, refused: Sequence[Refused]) -> None:
        """Cut refused batches until each row that is to blame stands alone.

        Raises:
            StorageError: something is refused that can't be set aside, or so much that it can't be the rows.
        """
        left = list(refused)
        for one in left:
            if not isinstance(one.statement, Batch):
                raise meaning(self._settings, one.error)
        while left:
            parts = [part for one in left[-_AT_ONCE:] for part in self._parts(one)]
            left[-_AT_ONCE:] = self._flight.deliver(parts)

    def _parts(self, refused: Refused) -> Iterator[Batch]:
        """What to try in place of this one; nothing of a row that is set aside."""
        batch: Any = refused.statement
        if len(batch.places) > 1:
            yield from batch.cut(_PARTS)
            return
        if batch.table != READINGS or is_guardrail(refused.error):
            raise meaning(self._settings, refused.error)
        self._set_aside(int(batch.places[0]), " ".join(str(refused.error).split())[:300])

    def _set_aside(self, place: int, why: str) -> None:
        self.aside[place] = why
        if len(self.aside) > self._most:
            raise StorageError(
                f"{shown(self._settings)}: more than half of all rows are refused, the last with: {why}"
            )
