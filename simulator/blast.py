"""As fast as the socket takes it: a prepared block, over and over, from one thread.

Each sender walks around the block on a socket that doesn't block, and a selector says whose turn it is.
It hands over slices of whole records: thousands at a time, or one (`per_packet`). A slice that was begun
is finished, so what the far end gets is whole records, and the count of them is exact.

Nothing here waits for ever: a run ends with its records or its time, and if the far end takes no byte,
or does not acknowledge, for `STALL_S`, with what was done until then.
"""

import ssl
import time
from typing import Final

import msgspec

from simulator.prepared import Prepared, prepare
from simulator.sender import Senders

__all__ = ["BlastResult", "Prepared", "prepare", "send"]

STALL_S: Final = 10.0
"""How long the far end may do nothing."""

TICK_S: Final = 0.002
"""How often a paced run hands records over."""

SLICE_RECORDS: Final = 8_192
"""A quarter of a megabyte: system calls cost nothing any more, and cache misses not yet."""


class BlastResult(msgspec.Struct, frozen=True):
    """What a run did."""

    sent: int
    """Whole records that the sockets took."""

    acknowledged: int
    seconds: float
    """Until the last record was handed over, or with `ack`, until the last acknowledgement came."""

    cpu_seconds: float
    """Of the sending thread."""

    ack_latencies: list[float]
    """Seconds from the moment the socket took a slice whole to its acknowledgement; with `ack`."""


def send(
    host: str,
    port: int,
    prepared: Prepared,
    *,
    connections: int = 1,
    records: int | None = None,
    duration_s: float | None = None,
    rate: float | None = None,
    per_packet: bool = False,
    ack: bool = False,
    tls: ssl.SSLContext | None = None,
) -> BlastResult:
    """Send prepared records to a server, blocking the calling thread.

    Args:
        host: where the server is.
        port: its port; with `ack`, the one that acknowledges.
        prepared: the block; it is repeated as a whole, each connection starting elsewhere in it.
        connections: how many at once; the limit of open files is the caller's to raise.
        records: stop after so many, all connections together.
        duration_s: stop after so long. Without both, the block is sent once.
        rate: records per second, all connections together; without it, as fast as possible.
        per_packet: one record for each system call, and Nagle's algorithm off.
        ack: read acknowledgements, close our half at the end and wait for the last; Nagle's algorithm off.
        tls: how to encrypt, if at all; then the last acknowledgement is waited for before the close.

    Raises:
        UnreachableError: nobody listens there.
        AcknowledgementError: the server acknowledged what it was not sent, or in no known form.
    """
    if records is None and duration_s is None:
        records = prepared.records
    step = 1 if per_packet else SLICE_RECORDS
    with Senders(host, port, prepared, connections=connections, step=step, ack=ack, tls=tls) as senders:
        began_s, began_cpu_s = time.perf_counter(), time.thread_time()
        _hand_over(senders, records, duration_s, rate)
        if ack:
            _await_last(senders)
        seconds, cpu_seconds = time.perf_counter() - began_s, time.thread_time() - began_cpu_s
        sent, acknowledged = senders.sent, senders.acknowledged
        latencies = [latency for sender in senders for latency in sender.latencies]
    return BlastResult(sent, acknowledged, seconds, cpu_seconds, latencies)


def _hand_over(senders: Senders, records: int | None, duration_s: float | None, rate: float | None) -> None:
    began_s = moved_s = time.perf_counter()
    taken = -1
    while (senders.open and not senders.stopped) or senders.pending:
        now_s = time.perf_counter()
        if duration_s is not None and now_s - began_s >= duration_s:
            senders.stop()
        elif not senders.stopped:
            allowed = _allowance(records, rate, now_s - began_s)
            senders.allow(allowed)
            if allowed is not None and allowed == records and not senders.pending:
                return
        if senders.taken != taken or not senders.pending:
            moved_s, taken = now_s, senders.taken
        elif now_s - moved_s > STALL_S:
            return
        senders.turn(TICK_S)


def _allowance(records: int | None, rate: float | None, passed_s: float) -> int | None:
    """How many records may have gone by now, all connections together; None for any number.

    It grows by whole ticks: what has become due goes out together, not each record as soon as it may.
    """
    if rate is None:
        return records
    ticks = int(passed_s / TICK_S) + 1
    due = int(ticks * TICK_S * rate) + 1
    return due if records is None else min(due, records)


def _await_last(senders: Senders) -> None:
    senders.half_close()
    deadline_s, known = time.perf_counter() + STALL_S, senders.acknowledged
    while senders.open and time.perf_counter() < deadline_s:
        senders.turn(TICK_S)
        if senders.acknowledged != known:
            deadline_s, known = time.perf_counter() + STALL_S, senders.acknowledged
