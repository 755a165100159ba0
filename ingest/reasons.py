"""Why a connection was not let in, what slowed it down, why it ended: the words of tables, log and metrics.

The counters begin with each of them at 0 (`ingest.metrics`). Prometheus sees no increase in a series that
appears with its first event, so that an alert would miss the first burst.
"""

from enum import StrEnum


class WhyClosed(StrEnum):
    """Why a connection ended; `storage.base.SERVER_LOST` is written by the next server."""

    CLOSED = "closed"
    """The machine closed it."""

    RESET = "reset"
    """It broke."""

    TIMED_OUT = "timed_out"
    """The other side answered nothing any more: a cable was pulled, the power went."""

    UNREACHABLE = "unreachable"
    """The network said that there is no way to it."""

    TLS_BROKEN = "tls_broken"
    """What came was no TLS any more, or TLS itself said that something was wrong."""

    TLS_CUT_OFF = "tls_cut_off"
    """It sent only messages of TLS itself, or took nothing of what TLS had to say."""

    IDLE_TIMEOUT = "idle_timeout"
    """Nothing came for `idle_timeout_s`."""

    NO_RECORD = "no_record"
    """No whole record came within `first_record_timeout_s`."""

    SLOW_RECORD = "slow_record"
    """A record was begun and not finished within `record_timeout_s`."""

    TOO_MANY_OF_IDENTITY = "too_many_of_identity"
    """Who it proved to be has `max_connections_per_identity` already."""

    NOT_ALLOWED = "not_allowed"
    """`allow` was changed, and it may not connect any more."""

    REVOKED = "revoked"
    """The certificate that it came with was revoked."""

    SHUTDOWN = "shutdown"
    """The server ended."""


class WhyRefused(StrEnum):
    """Why somebody was not let in."""

    NOT_ALLOWED = "not_allowed"
    """The address is in none of the networks of `allow`."""

    TOO_MANY = "too_many"
    """`max_connections`, or as many as there are file descriptors for."""

    TOO_MANY_OF_ADDRESS = "too_many_of_address"
    """`max_connections_per_address`."""

    TOO_OFTEN = "too_often"
    """`max_connects_per_minute`."""

    TOO_MANY_HANDSHAKES = "too_many_handshakes"
    """As many as there may be are under way, in all or of the address."""

    TLS_FAILED = "tls_failed"
    """No TLS, no certificate of the plant, or a revoked one."""

    TLS_TIMEOUT = "tls_timeout"
    """The handshake was not done within `handshake_timeout_s`."""

    GONE = "gone"
    """Before it was here."""

    FAILED = "failed"
    """A mistake of ours."""


class Limit(StrEnum):
    """What slows a connection down, by the key of the configuration."""

    RECORDS = "max_records_per_s"
    BYTES = "max_bytes_per_s"
