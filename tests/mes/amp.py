"""Orders to try AMP with, and a clock that only moves when it is told to."""

from typing import Final

import msgspec

from mes.amp.orders import NewOrder, OrderRequest

STAMP_MS: Final = 1_721_857_896_590
"""2024-07-24T21:51:36.590Z."""

GIVEN: Final = OrderRequest(
    user_id=1,
    base="Base 40mm",
    amount=40,
    drilling="3 second Drilling",
    cleaning="Without",
    pressing="Without",
    inspection="Complete",
)
"""Product 8, 40 pieces for 600."""

ROW: Final = NewOrder(user_id=1, product_id=8, amount=40, price=600, received_at=STAMP_MS)
"""The same, but for its number."""


class Clock:
    """Milliseconds since 1970 UTC, as a test wants them."""

    def __init__(self) -> None:
        self.ms = STAMP_MS

    def now_ms(self) -> int:
        """What it shows."""
        return self.ms


def changed(request: OrderRequest, **fields: object) -> OrderRequest:
    """The same request, but for these fields."""
    return msgspec.structs.replace(request, **fields)
