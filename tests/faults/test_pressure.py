"""What is slow behind the server, or deaf before it, costs the machines nothing and fills no memory."""

import sys
from typing import Final

import pytest

from tests.faults.deaf import Deaf
from tests.faults.figures import Figures, listed
from tests.faults.harness import MIB, Server
from tests.faults.load import Load, carry, judge
from tests.faults.sender import deliver, record

pytestmark = pytest.mark.fault

_SYNC_S: Final = 0.2
_COMMIT: Final = "headrace_journal_commit_seconds"

_QUEUE_BYTES: Final = 24 * MIB
"""Received and not yet durable, at most."""

_MANY: Final = 50_000
_LIVE: Final = "/api/v1/live"
_STREAM: Final = "/api/v1/stream"
_ANSWER: Final = f"/api/v1/devices/many/readings?limit={_MANY}"
_CLIENTS: Final = {_LIVE: 12, _STREAM: 12, _ANSWER: 12}
_HELD_BYTES: Final = 320 * MIB
"""What all of them together may have the server hold: some 20 MiB for each long answer that is on its way,
of which there are 16 at most, and 4 MiB for each stream."""


@pytest.mark.long(minutes=5)
def test_a_sync_that_takes_long_leaves_queues_and_memory_flat(
    server: Server, figures: Figures, *, long_form: bool
) -> None:
    """Of 200 ms each: all is acknowledged and stored; four minutes in the long form."""
    server.before = (sys.executable, "-m", "tests.faults.slow_disk", str(_SYNC_S))
    server.start()
    samples = carry(server, Load(20_000, 240.0, 2.0) if long_form else Load(5_000, 3.0, 0.2), figures)
    most = max(samples.values["not yet durable"])
    mean_s = server.metric(f"{_COMMIT}_sum") / server.metric(f"{_COMMIT}_count")
    figures.notes.append(f"{mean_s * 1000:.0f} ms a commit; at most {most / MIB:.1f} MiB not yet durable")
    assert mean_s >= _SYNC_S, "the disk was not slow"
    assert 0 < most < _QUEUE_BYTES
    if long_form:
        judge(samples, figures)


@pytest.mark.long(minutes=4)
def test_clients_that_never_read_cost_the_machines_nothing(
    server: Server, figures: Figures, *, long_form: bool
) -> None:
    """Pages, record streams, long answers: what waits for them is bounded, and the server answers others.

    In the long form for three minutes, in which each is closed at its deadline, and asks anew.
    """
    server.start()
    deliver(server.ack_port, b"".join(record("many", n) for n in range(_MANY)), records=_MANY)
    server.wait_drained()
    load = Load(20_000, 180.0, 2.0, machines=2_000) if long_form else Load(5_000, 3.0, 0.2, machines=2_000)
    with Deaf(server, _CLIENTS) as deaf:
        samples = carry(server, load, figures)
        assert server.ready().ready
    memory = samples.values["server memory"]
    figures.notes.append(f"held {(max(memory) - memory[0]) / MIB:.0f} MiB; closed {listed(deaf.closed)}")
    assert max(memory) - memory[0] < _HELD_BYTES
    if long_form:
        assert all(deaf.closed[path] >= _CLIENTS[path] for path in (_STREAM, _ANSWER))
        judge(samples, figures)
