"""What Prometheus sees of the log; names after its conventions."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from orders.logs.base import Level, LogRow


class LogMetrics:
    """The instruments of one `LogHandler`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter("headrace_log_rows", "Rows of the log written", ["level"], registry=registry)
        self.lost = Counter("headrace_log_lost", "Rows of the log that were lost", registry=registry)
        self.waiting = Gauge("headrace_log_waiting", "Rows of the log to be written", registry=registry)
        for level in Level:
            self.rows.labels(level.value)

    def count(self, rows: list[LogRow]) -> None:
        """Rows were written."""
        for row in rows:
            self.rows.labels(row.level.value).inc()
