"""Finding the rows that the database will never take, while it takes their neighbours.

A batch that was refused is cut into pieces until the row that is to blame stands alone: in eight, as two
would ask twice as often where a whole partition is refused, and no less where one row of 500 is. A reading
that is refused alone is set aside with the reason. What makes a whole table refuse (it was altered or
dropped) is nobody's row's fault: the tables are looked at before anything is set aside, and if they are not
as they were made, the writer waits.

Only readings are ever set aside. A batch of newest rows or directories may have been too large as well, and
is cut likewise; but without one of these rows what is stored is not found, so a single one that is refused
ends the write, as does anything else: the writer waits, and says why.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from storage.cassandra.encoding import READINGS, Batch
from storage.cassandra.flight import Flight, Refused
from storage.cassandra.meaning import meaning
from storage.errors import StorageError
from storage.settings import CassandraSettings

_PARTS: Final = 8
_MOST: Final = 1_000
"""Rows set aside in one write, at most; more look like trouble of another kind."""


class Refusals:
    """What became of one write's batches that were refused at first."""

    def __init__(self, flight: Flight, settings: CassandraSettings) -> None:
        self._flight = flight
        self._settings = settings
        self.aside: dict[int, str] = {}
        """Why, by the place of the row."""

    def narrow(self, refused: Sequence[Refused]) -> None:
        """Cut refused batches until each row that is to blame stands alone.

        Raises:
            StorageError: something is refused that can't be set aside, or so much that it can't be the rows.
        """
        while refused:
            parts = [part for one in refused for part in self._parts(one)]
            refused = self._flight.deliver(parts)

    def _parts(self, refused: Refused) -> Iterator[Batch]:
        """What to try in place of this one; nothing of a row that is set aside."""
        batch: Any = refused.statement
        if not isinstance(batch, Batch):
            raise meaning(self._settings, refused.error)
        if len(batch.places) > 1:
            yield from batch.cut(_PARTS)
            return
        if batch.table != READINGS:
            raise meaning(self._settings, refused.error)
        self._set_aside(int(batch.places[0]), " ".join(str(refused.error).split())[:300])

    def _set_aside(self, place: int, why: str) -> None:
        self.aside[place] = why
        if len(self.aside) > _MOST:
            raise StorageError(f"over {_MOST} rows were refused at once, the last with: {why}")
