"""Orders for tests of the book."""

from orders.book.base import Order, id_of
from orders.book.states import OrderState
from orders.request import OrderRequest

NOW_MS = 1_721_857_896_590
"""2024-07-24T21:51:36.590Z."""


def request(amount: int = 40) -> OrderRequest:
    """The order of the facts."""
    return OrderRequest(
        base="Base 40mm",
        amount=amount,
        drilling="3 second Drilling",
        cleaning="Without",
        pressing="Without",
        inspection="Complete",
    )


def order(
    key: str, *, user: str = "Factory_model_customer", user_id: int = 1, at: int = NOW_MS, amount: int = 40
) -> Order:
    """An order of a customer that was just written down."""
    return Order(
        id=id_of(user_id, key),
        user=user,
        user_id=user_id,
        request=request(amount),
        state=OrderState.FORWARDING,
        received_at=at,
        changed_at=at,
    )
