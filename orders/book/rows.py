"""An order as a row: the same columns in both databases."""

from typing import Any, Final

from orders.book.base import Order
from orders.book.states import OrderState
from orders.request import OrderRequest

COLUMNS: Final = (
    "id, user, user_id, base, amount, drilling, cleaning, pressing, inspection, state,"
    " received_at, changed_at, order_id, product_id, price, detail"
)


def known(order: Order) -> tuple[Any, ...]:
    """What changes in it, in the order of the columns."""
    return (order.state, order.changed_at, order.order_id, order.product_id, order.price, order.detail)


def to_row(order: Order) -> tuple[Any, ...]:
    """The columns, in the order of `COLUMNS`."""
    asked = order.request
    return (
        order.id,
        order.user,
        order.user_id,
        asked.base,
        asked.amount,
        asked.drilling,
        asked.cleaning,
        asked.pressing,
        asked.inspection,
        order.state,
        order.received_at,
        *known(order)[1:],
    )


def from_row(row: tuple[Any, ...]) -> Order:
    """The order in these columns."""
    id_, user, user_id, base, amount, drilling, cleaning, pressing, inspection, state, *rest = row
    received_at, changed_at, order_id, product_id, price, detail = rest
    return Order(
        id=id_,
        user=user,
        user_id=user_id,
        request=OrderRequest(
            base=base,
            amount=amount,
            drilling=drilling,
            cleaning=cleaning,
            pressing=pressing,
            inspection=inspection,
        ),
        state=OrderState(state),
        received_at=received_at,
        changed_at=changed_at,
        order_id=order_id,
        product_id=product_id,
        price=price,
        detail=detail,
    )
