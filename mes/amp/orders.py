"""What an order is: as it is asked for, as it is written down, and as it is shown.

Times are milliseconds since 1970 UTC, prices whole units of the price list's currency.
"""

import hashlib
from typing import Final, NamedTuple

import msgspec

from mes.amp.errors import RefusedError
from mes.amp.products import Product, find_product
from mes.amp.states import State

MAX_AMOUNT: Final = 1_000_000
"""Pieces in one order."""

MAX_USER_ID: Final = (1 << 53) - 1
"""A browser's numbers end here."""


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a customer asks for, in the words of the order form."""

    user_id: int
    base: str
    amount: int
    drilling: str
    cleaning: str
    pressing: str
    inspection: str

    @property
    def digest(self) -> bytes:
        """The same for the same request, however it was written."""
        return hashlib.sha256(msgspec.json.encode(self)).digest()

    def check(self) -> Product:
        """The product that is wanted.

        Raises:
            RefusedError: something can't be ordered so; it names the field.
        """
        if not 1 <= self.user_id <= MAX_USER_ID:
            raise RefusedError("user_id", f"must be from 1 to {MAX_USER_ID}")
        if not 1 <= self.amount <= MAX_AMOUNT:
            raise RefusedError("amount", f"must be from 1 to {MAX_AMOUNT}")
        return find_product(
            base=self.base,
            drilling=self.drilling,
            cleaning=self.cleaning,
            pressing=self.pressing,
            inspection=self.inspection,
        )


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The row of an order, but for its number."""

    user_id: int
    product_id: int
    amount: int
    price: int
    """Of all pieces."""

    received_at: int


class Order(NewOrder, frozen=True, kw_only=True):
    """An order, and how it is doing."""

    order_id: int
    state: State
    changed_at: int
    """When it got into this state."""

    place: int | None
    """In the queue: how many open orders came before it, plus one. None once it is done or cancelled."""


class Placed(NamedTuple):
    """What became of a request."""

    order: Order
    is_new: bool
    """False where the same request came before with the same key."""
