"""What Prometheus sees of the way from the sockets to the sinks; names after its conventions."""

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ingest.reasons import Limit, WhyClosed, WhyRefused

_SHORT: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class IngestMetrics:
    """The instruments of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.open = Gauge("headrace_connections_open", "Connections at the moment", registry=r)
        self.opened = Counter("headrace_connections_opened", "Connections accepted", registry=r)
        self.closed = Counter("headrace_connections_closed", "Connections ended", ["why"], registry=r)
        self.refused = Counter("headrace_connections_refused", "Not accepted", ["why"], registry=r)
        self.certificate_ends = Gauge(
            "headrace_tls_certificate_ends_seconds",
            "When the server's certificate ends, or a list of revoked ones, since 1970; 0 without TLS",
            registry=r,
        )
        self.rests = Counter(
            "headrace_listener_rests", "Times a listener rested, out of file descriptors", registry=r
        )
        self.throttled = Gauge(
            "headrace_connections_throttled", "Connections slowed down to their share", registry=r
        )
        self.throttles = Counter(
            "headrace_throttles", "Times that a connection began to be", ["limit"], registry=r
        )
        self.throttled_seconds = Counter(
            "headrace_throttled_seconds", "Pauses of connections above their share", registry=r
        )
        self.received_bytes = Counter("headrace_received_bytes", "Bytes read", registry=r)
        self.received_records = Counter("headrace_received_records", "Record numbers taken", registry=r)
        self.paused = Gauge("headrace_reading_paused", "1 while reading is paused", registry=r)
        self.pauses = Counter("headrace_reading_pauses", "Times that reading paused", registry=r)
        self.tick_seconds = Histogram("headrace_tick_seconds", "Making one block", buckets=_SHORT, registry=r)
        self.commit_seconds = Histogram(
            "headrace_journal_commit_seconds", "Making blocks durable", buckets=_SHORT, registry=r
        )
        self.loop_lag_seconds = Histogram(
            "headrace_event_loop_lag_seconds", "How late the loop is", buckets=_SHORT, registry=r
        )
        self.tasks_failed = Counter(
            "headrace_tasks_failed", "Tasks that failed and had to live as long as it", ["task"], registry=r
        )
        self.journal_bytes = Gauge("headrace_journal_bytes", "Size of the journal on disk", registry=r)
        self.journal_writing = Gauge("headrace_journal_writing", "1 while it can write", registry=r)
        self.journal_queued_bytes = Gauge(
            "headrace_journal_queued_bytes", "Received and not yet durable", registry=r
        )
        self.clock_jump_seconds = Gauge(
            "headrace_clock_jump_seconds", "How far the wall clock is off, not followed", registry=r
        )
        self.oldest_seconds = Gauge(
            "headrace_journal_oldest_unstored_seconds", "Age of what waits for a sink", ["sink"], registry=r
        )
        self.sink_lag = Gauge("headrace_sink_lag_blocks", "Blocks a sink is behind", ["sink"], registry=r)
        self.sink_up = Gauge("headrace_sink_running", "1 while a sink is writing", ["sink"], registry=r)
        self.sink_restarts = Counter("headrace_sink_restarts", "Restarts", ["sink"], registry=r)
        self.stored = Counter("headrace_records_stored", "Rows written", ["sink"], registry=r)
        self.rejected = Counter(
            "headrace_records_rejected", "Records that became none", ["sink", "reason"], registry=r
        )
        self.unkept = Counter(
            "headrace_records_unkept", "Rejects counted without their bytes", ["sink"], registry=r
        )
        self.empty = Counter("headrace_records_empty", "Nothing between delimiters", ["sink"], registry=r)
        self.set_aside = Counter(
            "headrace_records_set_aside", "Records that could not be stored", ["sink"], registry=r
        )
        self.damaged = Counter(
            "headrace_journal_damaged_blocks", "Blocks that could not be read", ["sink"], registry=r
        )
        self.gaps = Counter(
            "headrace_journal_gaps", "Times a sink found blocks trimmed that it needed", ["sink"], registry=r
        )
        self.purge_held = Gauge(
            "headrace_purge_held", "1 while nothing that is too old is deleted", ["sink"], registry=r
        )
        self.store_log_bytes = Gauge(
            "headrace_store_wal_bytes", "Write-ahead log of the tables", ["sink"], registry=r
        )
        self.store_requests = Counter(
            "headrace_store_requests", "Requests to the cluster", ["sink", "outcome"], registry=r
        )
        self.store_in_flight = Gauge(
            "headrace_store_in_flight_limit", "Requests that may be under way", ["sink"], registry=r
        )
        _begin(self.closed, WhyClosed)
        _begin(self.refused, WhyRefused)
        _begin(self.throttles, Limit)


def _begin(counter: Counter, values: Iterable[str]) -> None:
    """Show 0 for each value of its label from the start."""
    for value in values:
        counter.labels(value)
