"""What can be wrong with what a caller of AMP wants. All of it is the caller's; the same call fails again.

No text here repeats what the caller wrote, so it can stand in logs as it is.
"""

from mes.amp.states import State


class AmpError(Exception):
    """A request that AMP can't do."""


class RefusedError(AmpError):
    """A field of an order is not what it has to be."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class KeyReusedError(AmpError):
    """The key of one request came with another one."""

    def __init__(self, order_id: int) -> None:
        super().__init__(f"the key belongs to another request, that of order {order_id}")


class NoSuchOrderError(AmpError):
    """No order has this number."""

    def __init__(self) -> None:
        super().__init__("there is no such order")


class TransitionError(AmpError):
    """The order is in a state from which it can't get into that one."""

    def __init__(self, before: State, after: State) -> None:
        super().__init__(f"an order that is {before} can't become {after}")
        self.before = before
        self.after = after
