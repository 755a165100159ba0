"""Tasks that have to live as long as the server: one that fails is noticed, one that is ended isn't."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter
from structlog.testing import capture_logs

from headrace.serve import readiness
from ingest.server import IngestServer
from ingest.vital import Vital
from tests.ingest.test_full_disk import reached, serving


async def _fails() -> None:
    raise ZeroDivisionError("on purpose")


async def _ends() -> None:
    """At once, as it is meant to."""


async def test_only_a_task_that_fails_is_noticed() -> None:
    """With its name, what it was, and a count that is there from the start; the others come to their ends."""
    registry = CollectorRegistry()
    vital = Vital(Counter("failed", "Failed", ["task"], registry=registry))
    lasting = asyncio.get_running_loop().create_future()
    tasks = [
        asyncio.create_task(_fails(), name="fails"),
        asyncio.create_task(_ends(), name="ends"),
        asyncio.create_task(asyncio.wait_for(lasting, None), name="is cancelled"),
    ]
    for task in tasks:
        vital.watch(task)
    assert registry.get_sample_value("failed_total", {"task": "fails"}) == 0
    with capture_logs() as said:
        await asyncio.wait(tasks[:2])
        tasks[2].cancel()
        await asyncio.wait(tasks)
        await asyncio.sleep(0)
    assert vital.troubles == ["the task 'fails' has failed (ZeroDivisionError); the log says how"]
    assert registry.get_sample_value("failed_total", {"task": "fails"}) == 1
    assert registry.get_sample_value("failed_total", {"task": "ends"}) == 0
    assert [(line["event"], line["task"], line["reason"]) for line in said] == [
        ("task_failed", "fails", "ZeroDivisionError('on purpose')")
    ]


@pytest.mark.parametrize(("work", "task"), [("_set_gauges", "gauges"), ("_measure_lag", "loop lag")])
async def test_a_server_whose_figures_stand_still_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str, task: str
) -> None:
    """It says so, and goes on taking data."""

    def fails(*_: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(IngestServer, work, fails if work == "_set_gauges" else lambda _: _fails())
    async with serving(tmp_path) as server:
        await reached(lambda: server.statistics.troubles, "the trouble")
        found = readiness(server.statistics)
        assert not found.ready
        assert found.reasons == [f"the task '{task}' has failed (ZeroDivisionError); the log says how"]
        assert server.metrics.registry.get_sample_value("headrace_tasks_failed_total", {"task": task}) == 1
        assert server.listener.listening
