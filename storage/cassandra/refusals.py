"""Finding the rows that the database will never take, while it takes their neighbours.

A batch that was refused is cut in two until the row that is to blame stands alone; that row is set aside
with the reason. What makes a whole table refuse (it was altered or dropped) is nobody's row's fault: the
tables are looked at before anything is set aside, and if they are not as they were made, the writer
waits.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from storage.cassandra.encoding import Batch
from storage.cassandra.flight import Flight, Refused
from storage.errors import StorageError

_MOST: Final = 1_000
"""Rows set aside in one write, at most; more look like trouble of another kind."""


class Refusals:
    """What became of one write's rows that were refused at first."""

    def __init__(self, flight: Flight, batches: Callable[[NDArray[np.intp]], Iterator[Batch]]) -> None:
        """`batches` encodes these rows (by their places) anew."""
        self._flight = flight
        self._batches = batches
        self.aside: dict[int, str] = {}
        """Why, by the place of the row."""

    def narrow(self, refused: Sequence[Refused]) -> None:
        """Halve refused batches until each row that is to blame stands alone.

        Raises:
            StorageError: so many are refused that it can't be the rows.
        """
        while refused:
            halves = [half for one in refused for half in self._halves(one)]
            refused = self._flight.deliver(batch for half in halves for batch in self._batches(half))

    def _halves(self, refused: Refused) -> Iterator[NDArray[np.intp]]:
        places = refused.statement.places
        if len(places) > 1:
            middle = len(places) // 2
            yield places[:middle]
            yield places[middle:]
            return
        self.aside[int(places[0])] = " ".join(str(refused.error).split())[:300]
        if len(self.aside) > _MOST:
            raise StorageError(
                f"over {_MOST} rows were refused at once, the last with: {self.aside[int(places[0])]}"
            )


def is_of_rows(refused: Refused) -> bool:
    """Whether a batch of readings was refused, and not a statement of the books."""
    statement: Any = refused.statement
    return isinstance(statement, Batch)
