"""The states of an order at AMP, as a table.

                  cancelled
                  ^       ^
                  |       |
    (new) --> received --> queued --> in production --> done

- **received**: the request is good, and the order has its number. It enters the queue in the same change of
  the database, so nobody meets it in this state; the log names the step.
- **queued**: it waits for the line. Its place in the queue counts the orders before it that are queued or in
  production.
- **in production**: the line works on it. From here on it can't be cancelled any more: the material is spent.
- **done** and **cancelled** are ends.

An order is *open* while it has a place in the queue. What is not in the table does not happen, whoever asks:
the line, the customer or AMP's staff.
"""

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where an order is."""

    RECEIVED = "received"
    QUEUED = "queued"
    IN_PRODUCTION = "in production"
    DONE = "done"
    CANCELLED = "cancelled"


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.RECEIVED: frozenset({State.QUEUED, State.CANCELLED}),
    State.QUEUED: frozenset({State.IN_PRODUCTION, State.CANCELLED}),
    State.IN_PRODUCTION: frozenset({State.DONE}),
    State.DONE: frozenset(),
    State.CANCELLED: frozenset(),
}
"""What each state may become."""
