"""What the gateway knows of an order, as a table.

    forwarding   written down before anything was sent; the supplier may have it or not
    sent         the supplier has it and gave it a number
    refused      the supplier will never take it
    failed       the supplier surely does not have it; the customer may send it again, and where two servers
                 do so at once one of them may arrive after all
    cancelled    taken back, as the supplier confirmed

An order is `forwarding` until its fate is known, across restarts: it is sent again with the same key until
the supplier answers, which makes no second order.
"""

from enum import StrEnum
from typing import Final


class OrderState(StrEnum):
    """See above."""

    FORWARDING = "forwarding"
    SENT = "sent"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRANSITIONS: Final[dict[OrderState, frozenset[OrderState]]] = {
    OrderState.FORWARDING: frozenset({OrderState.SENT, OrderState.REFUSED, OrderState.FAILED}),
    OrderState.FAILED: frozenset({OrderState.FORWARDING, OrderState.SENT}),
    OrderState.SENT: frozenset({OrderState.CANCELLED}),
    OrderState.REFUSED: frozenset(),
    OrderState.CANCELLED: frozenset(),
}
"""From each state to those that may follow."""
