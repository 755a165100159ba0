"""What Prometheus sees of orders; names after its conventions."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from orders.errors import (
    InvalidOrderError,
    KeyReusedError,
    OverloadedError,
    RefusedError,
    SupplierError,
)

_SENT: Final = "sent"
_BROKEN: Final = "broken"
_UNKNOWN: Final = "unknown"
_FAILED: Final = "failed"
_OUTCOMES: Final[dict[type[Exception], str]] = {
    InvalidOrderError: "invalid",
    KeyReusedError: "invalid",
    RefusedError: "refused",
    OverloadedError: "overloaded",
}
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class OrderMetrics:
    """The instruments of one `AmpFacade`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.orders = Counter("headrace_orders", "What customers were told", ["outcome"], registry=registry)
        self.seconds = Histogram(
            "headrace_order_seconds", "From an order to what was told", buckets=_SECONDS, registry=registry
        )
        for outcome in (_SENT, _UNKNOWN, _FAILED, _BROKEN, *_OUTCOMES.values()):
            self.orders.labels(outcome)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Count and time one order."""
        begun = time.perf_counter()
        outcome = _SENT
        try:
            yield
        except Exception as error:
            outcome = _outcome(error)
            raise
        finally:
            self.orders.labels(outcome).inc()
            self.seconds.observe(time.perf_counter() - begun)


def _outcome(error: Exception) -> str:
    if isinstance(error, SupplierError):
        return _UNKNOWN if error.may_have_arrived else _FAILED
    return _OUTCOMES.get(type(error), _BROKEN)
