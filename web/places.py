"""Places for connections of pages and API: so many in all, and of one address where that is configured.

Each takes a file descriptor, and journal and tables take theirs from the same limit. So whoever comes when
all places are taken is closed at once, before anything is read. An answer that says so would keep the
descriptor until the other side has taken it.

    too_many             `HttpLimits.max_connections`
    too_many_of_address  `[http] max_connections_per_address`; with IPv6 a /64 is one address

How a connection ended is counted where it was us who ended it, see `Cut`.
"""

import enum
from collections import Counter
from collections.abc import Callable
from typing import Final

import prometheus_client
import structlog
from prometheus_client import CollectorRegistry

from orders.accounts.throttle import network_of

_SAID_EVERY_S: Final = 10.0

_log = structlog.get_logger(__name__)


class Cut(enum.StrEnum):
    """Why we ended a connection that had a place."""

    NO_REQUEST = "no_request"
    """`HttpLimits.header_timeout_s`: what it began to ask did not arrive in time."""

    NOT_TAKEN = "not_taken"
    """`HttpLimits.stall_timeout_s`: it did not take its answer in time."""

    NO_HTTP = "no_http"
    """What came can't be read as a request; answered with 400 where nothing was answered yet."""

    STOPPED = "stopped"
    """`HttpLimits.stop_timeout_s`: at the end it had not taken its answer, or sent its request."""


class HttpMetrics:
    """What Prometheus sees of the connections of one HTTP server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.open = prometheus_client.Gauge(
            "headrace_http_connections_open", "Connections of pages and API at the moment", registry=registry
        )
        self.refused = prometheus_client.Counter(
            "headrace_http_connections_refused", "Closed at once", ["why"], registry=registry
        )
        for why in ("too_many", "too_many_of_address"):
            self.refused.labels(why)
        self.cut = prometheus_client.Counter(
            "headrace_http_connections_cut", "Ended by us", ["why"], registry=registry
        )
        for cut in Cut:
            self.cut.labels(cut)


class Places:
    """The places of one HTTP server."""

    def __init__(
        self, most: int, most_of_address: int | None, metrics: HttpMetrics, now: Callable[[], float]
    ) -> None:
        """`now` is in seconds, on any clock that runs evenly; None is no bound of its own."""
        self._most = most
        self._most_of_address = most_of_address
        self._metrics = metrics
        self._now = now
        self._of_address: Counter[str] = Counter()
        self._taken = self._unsaid = 0
        self._quiet_until = float("-inf")

    def enter(self, host: str) -> bool:
        """Take a place; False where there is none for who comes from this host."""
        key = network_of(host)
        why = self._refusal(key)
        if why is not None:
            self._refuse(why, host)
            return False
        self._of_address[key] += 1
        self._count(1)
        return True

    def leave(self, host: str) -> None:
        """Give back a place that was taken from this host."""
        key = network_of(host)
        self._of_address[key] -= 1
        if not self._of_address[key]:
            del self._of_address[key]
        self._count(-1)

    def cut(self, why: Cut) -> None:
        """Count one whose connection we end; it leaves when that is over."""
        self._metrics.cut.labels(why).inc()

    def _refusal(self, key: str) -> str | None:
        if self._taken >= self._most:
            return "too_many"
        of_address = self._most_of_address
        return "too_many_of_address" if of_address and self._of_address[key] >= of_address else None

    def _count(self, more: int) -> None:
        self._taken += more
        self._metrics.open.set(self._taken)

    def _refuse(self, why: str, host: str) -> None:
        """Count one; of a flood the log has a line in ten seconds, with how many it is about."""
        self._metrics.refused.labels(why).inc()
        self._unsaid += 1
        if self._now() >= self._quiet_until:
            _log.warning("http_connection_refused", reason=why, peer=host, times=self._unsaid)
            self._quiet_until, self._unsaid = self._now() + _SAID_EVERY_S, 0
