"""What comes to the supplier and what it answers, as JSON; times in RFC 3339."""

import re
from typing import Final

import msgspec

from mes.amp.orders import Order
from mes.amp.products import PRODUCTS
from web.problems import AnyRequest, ParameterError
from web.times import format_time

MAX_BODY_BYTES: Final = 4 * 1024
MAX_KEY_LENGTH: Final = 64

_KEY: Final = re.compile(rf"[ -~]{{1,{MAX_KEY_LENGTH}}}", re.ASCII)


class StateBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state that an order is to get into."""

    state: str


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """An order."""

    order_id: int
    user_id: int
    product_id: int
    amount: int
    price: int
    received_at: str
    state: str
    place: int | None


class QueueEntry(OrderView, frozen=True, kw_only=True):
    """An order in the queue, with what is to be made."""

    product: str


class Orders(msgspec.Struct, frozen=True):
    """Orders by number."""

    orders: list[OrderView]


class QueuePage(msgspec.Struct, frozen=True):
    """Orders by number, and where to go on."""

    orders: list[QueueEntry]
    next: int | None
    """What to give as `after` for the next page, None on the last."""


def read_key(request: AnyRequest) -> str:
    """The `Idempotency-Key` of a request.

    Raises:
        ParameterError: there is none, or it can't be one.
    """
    key: str = request.headers.get("idempotency-key", "")
    if not _KEY.fullmatch(key):
        raise ParameterError(
            "Idempotency-Key", f"a header with 1 to {MAX_KEY_LENGTH} printable ASCII characters is needed"
        )
    return key


def view_order(order: Order) -> OrderView:
    """An order."""
    return OrderView(
        order_id=order.order_id,
        user_id=order.user_id,
        product_id=order.product_id,
        amount=order.amount,
        price=order.price,
        received_at=format_time(order.received_at),
        state=order.state,
        place=order.place,
    )


def view_entry(order: Order) -> QueueEntry:
    """An order of the queue."""
    product = PRODUCTS[order.product_id].text
    return QueueEntry(**msgspec.structs.asdict(view_order(order)), product=product)
