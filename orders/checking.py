"""Whether an order is one: its options, its amount, and what goes together."""

from typing import Final

from orders.errors import InvalidOrderError
from orders.request import OPTIONS, OrderRequest

_WORK: Final = ("drilling", "cleaning", "pressing", "inspection")


def check_order(request: OrderRequest, max_amount: int) -> None:
    """See that it can be ordered.

    Raises:
        InvalidOrderError: it names the field and the reason.
    """
    for field, options in OPTIONS.items():
        if getattr(request, field) not in options:
            raise InvalidOrderError(field, f"must be one of {', '.join(options)}")
    if not 1 <= request.amount <= max_amount:
        raise InvalidOrderError("amount", f"must be 1 to {max_amount} pieces")
    if all(getattr(request, field).startswith("Without") for field in _WORK):
        raise InvalidOrderError("inspection", "a base without any work is not sold; choose at least one")
