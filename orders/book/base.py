"""The contract of whoever keeps the book."""

import hashlib
from typing import Final, Protocol

import msgspec

from orders.book.states import OrderState
from orders.request import OrderRequest

_ID_DIGITS: Final = 32


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An order as the gateway knows it."""

    id: str
    """32 hexadecimal digits, made of the customer and the idempotency key: so the same key is the same row.
    The supplier gets it as its key."""

    user: str
    user_id: int
    request: OrderRequest
    state: OrderState
    received_at: int
    """Milliseconds since 1970 UTC, as all times here."""

    changed_at: int
    """When the state was entered."""

    order_id: int | None = None
    """The supplier's number, once it is known; so are the next two."""

    product_id: int | None = None
    price: int | None = None
    """Of the whole order."""

    detail: str = ""
    """Why it was refused, or failed."""


class OrderPlace(msgspec.Struct, frozen=True, order=True):
    """Where a page of orders ends."""

    received_at: int
    id: str


def id_of(user_id: int, key: str) -> str:
    """The id of a customer's order with this idempotency key."""
    return hashlib.sha256(f"{user_id}\0{key}".encode()).hexdigest()[:_ID_DIGITS]


class OrderBook(Protocol):
    """Orders by id. Every call may raise `storage.errors.StorageError`.

    What returned is durable, but for an order that became `sent`: after a power cut it may be `forwarding`
    again, and is sent once more with the same key.
    """

    async def add(self, order: Order) -> Order:
        """Write it down, unless there is one with this id: the one that the book has then."""
        ...

    async def order(self, id_: str) -> Order | None:
        """By its id."""
        ...

    async def change(self, order: Order, was: OrderState) -> bool:
        """Replace the row, if its state is still this one; whether it was."""
        ...

    async def orders(self, user: str | None, before: OrderPlace | None, limit: int) -> list[Order]:
        """Of a user or of all, the newest first by (received_at, id), after this place."""
        ...

    async def undecided(self) -> list[Order]:
        """All that are `forwarding`."""
        ...

    async def close(self) -> None:
        """Let go of the database."""
        ...
