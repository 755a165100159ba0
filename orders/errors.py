"""What can go wrong on an order's way: whose fault it is, and what is known about the order then."""

from orders.book.base import Order


class OrderError(Exception):
    """An order that can't be taken, or a request about one that can't be met."""


class InvalidOrderError(OrderError):
    """The customer's: an option, an amount or a combination that there isn't."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field


class KeyReusedError(OrderError):
    """The customer's: the idempotency key belongs to an order of something else."""

    def __init__(self) -> None:
        super().__init__(
            "Idempotency-Key: belongs to an order of something else; take a new key for a new order"
        )


class NoSuchOrderError(OrderError):
    """There is no such order, or it is somebody else's."""

    def __init__(self) -> None:
        super().__init__("there is no such order of yours")


class NotCancellableError(OrderError):
    """The order is in a state in which it can't be taken back."""


class RefusedError(OrderError):
    """The supplier's: it will not take this order."""

    def __init__(self, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field


class OverloadedError(OrderError):
    """Nobody's: as many orders as there may be are on their way."""

    def __init__(self) -> None:
        super().__init__("too many orders are on their way; nothing was ordered, try again")


class SupplierError(OrderError):
    """The supplier's, or the network's: it passes."""

    def __init__(self, detail: str, *, may_have_arrived: bool, order: Order | None = None) -> None:
        super().__init__(detail)
        self.may_have_arrived = may_have_arrived
        """Whether the supplier may have the order although it did not say so."""

        self.order = order
        """As the book has it then, where it is about one."""


class SupplierAwayError(SupplierError):
    """It can't be reached, or says that it takes nothing now."""


class SupplierSlowError(SupplierError):
    """It did not answer in time."""


class SupplierBrokenError(SupplierError):
    """It answered what can't be understood, or refused the gateway itself."""
