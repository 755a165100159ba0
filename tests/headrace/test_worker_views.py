"""What the parent makes of what its workers tell it: metrics, readiness, and the live view's way."""

import asyncio
import sys
import threading
from itertools import accumulate
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from structlog.testing import capture_logs

from headrace.config import Config, decode_config
from headrace.errors import ConfigError, FailedError
from headrace.starting import StartOptions, warn_of_others
from headrace.workers import crew as crew_room
from headrace.workers import messages, process
from headrace.workers.crew import Crew
from headrace.workers.figures import WorkerFigures, WorkerMetrics, families
from headrace.workers.forwarding import Forwarder
from headrace.workers.messages import (
    MESSAGE_BYTES,
    Listening,
    Message,
    NonsenseError,
    Order,
    Refused,
    Report,
    Seen,
    SeenBlock,
    WorkerTask,
    encode,
    read_message,
    read_order,
    read_task,
)
from headrace.workers.plan import Plan, worker_config, worker_folders
from headrace.workers.worker import PATIENCE, STARTING_LOOKS, Worker, WorkerState
from ingest.claims import Claims
from ingest.journal import Journal, JournalState, JournalStatistics, worker_folder
from ingest.live import LivePublisher
from ingest.metrics import IngestMetrics
from ingest.server import Ending, IngestServer, ServerStatistics
from ingest.settings import IngestSettings, JournalSettings
from ingest.supervisor import SinkState, SinkStatistics
from ingest.vital import Vital
from parser.block import Block
from storage.live import LiveFeed
from tests.ingest.building import chain, same
from tests.ingest.floor import reached


class Process:
    """The instruments of one life of a worker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rows = Counter("rows", "Rows", ["sink"], registry=self.registry)
        self.open = Gauge("open", "Connections", registry=self.registry)
        self.seconds = Histogram("seconds", "Seconds", buckets=(1, 10), registry=self.registry)


@given(lives=st.lists(st.lists(st.integers(0, 100), max_size=4), min_size=1, max_size=5))
def test_counters_go_on_over_any_number_of_lives(lives: list[list[int]]) -> None:
    """Whatever a worker has reported is shown for ever, and nothing of it twice."""
    figures, view = WorkerFigures(), CollectorRegistry()
    view.register(figures)
    total = 0
    for life in lives:
        process = Process()
        for count, so_far in zip(life, accumulate(life), strict=True):
            process.rows.labels("tables").inc(count)
            process.seconds.observe(count)
            figures.reported(3, families(process.registry))
            shown = view.get_sample_value("rows_total", {"worker": "3", "sink": "tables"})
            assert shown == total + so_far
        total += sum(life)
        figures.ended(3)
    if any(lives):
        assert view.get_sample_value("rows_total", {"worker": "3", "sink": "tables"}) == total
        assert view.get_sample_value("seconds_count", {"worker": "3"}) == sum(map(len, lives))


def test_what_a_process_measured_of_itself_goes_with_it() -> None:
    """A gauge of a worker that is gone is not shown; those of the others are."""
    figures, view = WorkerFigures(), CollectorRegistry()
    view.register(figures)
    for worker, connections in ((0, 5), (1, 7)):
        process = Process()
        process.open.set(connections)
        figures.reported(worker, families(process.registry))
    figures.ended(0)
    assert view.get_sample_value("open", {"worker": "0"}) is None
    assert view.get_sample_value("open", {"worker": "1"}) == 7


def test_what_a_silent_process_measured_of_itself_is_not_shown_either() -> None:
    """Until it answers again; what it counted stays, and counts once."""
    figures, view = WorkerFigures(), CollectorRegistry()
    view.register(figures)
    process = Process()
    process.open.set(5)
    process.rows.labels("tables").inc(3)
    figures.reported(0, families(process.registry))
    figures.silent(0)
    assert view.get_sample_value("open", {"worker": "0"}) is None
    assert view.get_sample_value("rows_total", {"worker": "0", "sink": "tables"}) == 3
    figures.reported(0, families(process.registry))
    assert view.get_sample_value("open", {"worker": "0"}) == 5
    assert view.get_sample_value("rows_total", {"worker": "0", "sink": "tables"}) == 3


def statistics(*, listening: bool = True, bounded: bool = False) -> ServerStatistics:
    """A server that works, but for what is said."""
    journal = JournalStatistics(JournalState.WRITING, "", 0, 0, bounded)
    sink = SinkStatistics("tables", SinkState.RUNNING, "", 5, 7, 0, None)
    return ServerStatistics(listening, 0, frozenset(), 0, journal, [sink])


def crew_of(*workers: tuple[WorkerState, ServerStatistics | None]) -> Crew:
    """Workers that were heard so, with no process behind them."""
    crew = Crew(Config(), StartOptions(), Plan(len(workers), 9400, None), "json")
    for worker, (state, heard) in zip(crew._workers, workers, strict=True):
        worker.state, worker.statistics = state, heard
    return crew


@pytest.mark.parametrize(
    ("first", "second", "ready", "reasons"),
    [
        ((WorkerState.SERVING, statistics()), (WorkerState.SERVING, statistics()), True, []),
        (
            (WorkerState.RESTARTING, statistics()),
            (WorkerState.SERVING, statistics()),
            True,
            ["worker 0: restarting"],
        ),
        (
            (WorkerState.RESTARTING, None),
            (WorkerState.STARTING, None),
            False,
            ["worker 0: restarting", "worker 1: starting"],
        ),
        (
            (WorkerState.SERVING, statistics(bounded=True)),
            (WorkerState.SERVING, statistics()),
            False,
            ["worker 0: journal has reached max_bytes: the sinks are too far behind"],
        ),
    ],
)
async def test_readiness_is_what_machines_feel(
    first: tuple[WorkerState, ServerStatistics | None],
    second: tuple[WorkerState, ServerStatistics | None],
    ready: bool,  # noqa: FBT001  # a parameter of the table above
    reasons: list[str],
) -> None:
    """A worker that doesn't listen gets no machines; one that listens and takes nothing does."""
    found = crew_of(first, second).readiness()
    assert (found.ready, found.reasons) == (ready, reasons)


async def test_a_mistake_with_one_worker_ends_the_watch_over_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is among the reasons for not being ready."""
    looks: list[int] = []

    async def look(watched: Worker, _: float) -> None:
        looks.append(watched.number)
        if watched.number == 0:
            raise ZeroDivisionError

    monkeypatch.setattr(Worker, "look_after", look)
    monkeypatch.setattr(crew_room, "_ASK_EVERY_S", 0.01)
    crew = crew_of((WorkerState.SERVING, statistics()), (WorkerState.SERVING, statistics()))
    crew._look_after_all()
    await reached(lambda: looks.count(1) >= 3, "the other one is looked after")
    found = crew.readiness()
    assert not found.ready
    assert found.reasons == [
        "the task 'asking worker 0' has failed (ZeroDivisionError); the log says how",
    ]
    assert looks.count(0) == 1
    await crew.stop()


async def test_sinks_of_a_worker_that_is_gone_are_shown_as_such() -> None:
    """Nobody takes its last report for the state of things."""
    found = crew_of((WorkerState.RESTARTING, statistics()), (WorkerState.SERVING, statistics())).readiness()
    assert [(sink.name, sink.state, sink.lag_blocks) for sink in found.sinks] == [
        ("worker-0/tables", "restarting", 2),
        ("worker-1/tables", "running", 2),
    ]


def test_workers_share_what_the_server_has() -> None:
    """Each its own node id, journal folder and part of the disk; all the same ports."""
    plan = Plan(4, 9400, 9401)
    configs = [worker_config(Config(), plan, number) for number in range(4)]
    assert [config.ingest.node_id for config in configs] == [0, 1, 2, 3]
    assert [config.journal.path for config in configs] == [f"data/journal/worker-{n}" for n in range(4)]
    assert sum(config.journal.max_bytes for config in configs) <= Config().journal.max_bytes
    assert {(c.ingest.port, c.ingest.ack_port, c.ingest.share_port) for c in configs} == {(9400, 9401, True)}


async def test_messages_come_whole_or_not_at_all() -> None:
    """A process that is killed in the middle of a word has not said it."""
    stream = asyncio.StreamReader()
    words: list[Message] = [Listening(), Refused("the port is taken")]
    data = b"".join(map(encode, words))
    stream.feed_data(data + encode(Listening())[:-1])
    stream.feed_eof()
    assert [await read_message(stream), await read_message(stream)] == words
    assert await read_message(stream) is None


async def test_whatever_a_configuration_may_say_a_worker_is_told() -> None:
    """Also limits that are none, and a journal with more bytes than a float counts."""
    config = decode_config(
        {
            "ingest": {"idle_timeout_s": inf, "allow": ["10.0.0.0/8"]},
            "record": {"limits": {"power_kw": [-inf, inf]}},
            "journal": {"max_bytes": (1 << 63) - 1},
        },
        "a file",
    )
    task = WorkerTask(3, config, Plan(4, 9400, None), True, False, "json", True)
    stream = asyncio.StreamReader()
    stream.feed_data(encode(task) + encode(Order.REPORT) + encode(config))
    stream.feed_eof()
    assert await read_task(stream) == task
    assert [await read_order(stream), await read_order(stream)] == [Order.REPORT, config]
    assert await read_order(stream) is None


async def test_an_order_that_can_not_be_followed_ends_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines are connected to it: it says so, and does what it is told next."""

    async def fails(*_: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(process, "take_over", fails)
    stream = asyncio.StreamReader()
    stream.feed_data(encode(Refused("is no order")) + encode(Config()) + encode(Order.WATCH))
    stream.feed_eof()
    task = WorkerTask(0, Config(), Plan(1, 9400, None), False, False, "json", False)
    said: list[Message] = []
    out = cast("process._Out", SimpleNamespace(say=said.append, has_room=lambda: True))
    live = Forwarder(out.say, out.has_room)
    serving = cast("IngestServer", Serving())
    with capture_logs() as log:
        status = await process._serve(task, serving, live, process._Link(stream, out))
    assert [line["event"] for line in log] == ["order_not_understood", "configuration_refused"]
    assert (status, live.watched) == (process.GOOD, True)
    assert [type(message) for message in said] == [Report]


async def test_workers_are_heard_while_the_parent_reads_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at them before anybody is told of a change; a long list of revoked ones takes its time."""
    heard = threading.Event()

    def slow(_: IngestSettings) -> None:
        assert heard.wait(30)

    monkeypatch.setattr(crew_room, "Certificates", slow)
    ingest = replace(Config().ingest, tls_cert="server.pem", tls_key="server.key")
    taking = asyncio.create_task(crew_of().take_over(replace(Config(), ingest=ingest)))
    await asyncio.sleep(0.1)
    assert not taking.done()
    heard.set()
    await asyncio.wait_for(taking, 30)


class Serving:
    """A server that has nothing to do."""

    def __init__(self) -> None:
        self.statistics = statistics()
        self.metrics = IngestMetrics()

    async def stop(self) -> Ending:
        """End, with everything durable."""
        return Ending(durable=True, flushed=True)


def test_a_configuration_that_is_too_large_to_be_told_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By who would tell it: a worker that reads half of one understands nothing any more."""
    monkeypatch.setattr(messages, "MESSAGE_BYTES", 1 << 16)
    config = Config(ingest=IngestSettings(allow=("10.0.0.0/8",) * 10_000))
    with pytest.raises(ConfigError, match="more than workers can be told"):
        encode(config)


NONSENSE = [
    b"\0\0\0\x05hello",
    b"\0\0\0\x01\x01",
    (MESSAGE_BYTES + 1).to_bytes(4, "big"),
    encode(Refused("x"))[:-1] + b"\xff",
]


@pytest.mark.parametrize("data", NONSENSE)
async def test_nonsense_is_no_message(data: bytes) -> None:
    """And is not waited for, however much of it is announced."""
    stream = asyncio.StreamReader()
    stream.feed_data(data)
    with pytest.raises(NonsenseError):
        await read_message(stream)


def worker(registry: CollectorRegistry) -> Worker:
    """One that begins with the next `sys.executable`."""
    task = WorkerTask(0, Config(), Plan(1, 9400, None), False, False, "json", False)
    metrics = WorkerMetrics(registry)
    return Worker(
        task,
        LivePublisher(LiveFeed()),
        Claims(registry),
        figures=WorkerFigures(),
        metrics=metrics,
        vital=Vital(metrics.tasks_failed),
    )


def pretending(
    folder: Path, monkeypatch: pytest.MonkeyPatch, said: bytes, *, stays: bool = True
) -> tuple[Path, Path]:
    """Have the next workers say this, and hear nothing; the file of their words, and that of the program."""
    words, program = folder / "words", folder / "worker"
    words.write_bytes(said)
    program.write_text(f"#!/bin/sh\ncat {words}\n{'exec sleep 600' if stays else ''}\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    return words, program


@pytest.mark.parametrize("said", [NONSENSE[0], encode(Seen([SeenBlock(1, b"", b"", 7)]))])
async def test_a_worker_that_talks_nonsense_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    """It is ended, since nothing it says can be understood; also where no process can be started at first."""
    words, program = pretending(tmp_path, monkeypatch, encode(Listening()) + said)
    registry = CollectorRegistry()
    watched = worker(registry)
    with capture_logs() as log:
        await watched.start()
        await reached(lambda: watched.state is WorkerState.RESTARTING, "its end")
        program.rename(tmp_path / "away")
        await reached(lambda: _restarts(registry) >= 2, "the next end")
        watched.watch(watched=True)
        watched.change(Config())
        (tmp_path / "away").rename(program)
        words.write_bytes(encode(Listening()))
        await reached(lambda: watched.state is WorkerState.SERVING, "its new start")
    assert [line["event"] for line in log if line["event"] == "worker_not_understood"]
    assert any("can't be started" in (line.get("reason") or "") for line in log)
    watched._process.kill()  # type: ignore[union-attr]
    await watched.stop()


@pytest.mark.parametrize("starts", [True, False])
async def test_a_worker_that_nobody_watches_over_makes_the_server_unready(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, starts: bool
) -> None:
    """The reason says so, and a figure; where it happens at the start, that is refused and not waited for."""

    def fails(*_: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(WorkerFigures, "ended", fails)
    pretending(tmp_path, monkeypatch, encode(Listening()) if starts else b"", stays=False)
    crew = crew_of((WorkerState.STARTING, None))
    reason = "the task 'worker 0' has failed (ZeroDivisionError); the log says how"
    with capture_logs() as log:
        starting = asyncio.create_task(crew.start())
        await reached(lambda: reason in crew.readiness().reasons, "the reason")
        if not starts:
            with pytest.raises(FailedError, match="worker 0 can't be watched over"):
                await asyncio.wait_for(starting, 30)
    assert not crew.readiness().ready
    assert crew.registry.get_sample_value("headrace_parent_tasks_failed_total", {"task": "worker 0"}) == 1
    assert [line["event"] for line in log if line["log_level"] == "error"] == ["task_failed"]
    await crew.stop()
    await asyncio.gather(starting, return_exceptions=True)


async def test_a_report_that_we_can_not_take_ends_the_worker_and_not_its_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of ours: it is started again, as after any other end."""

    def fails(*_: object) -> None:
        raise ZeroDivisionError("on purpose")

    pretending(tmp_path, monkeypatch, encode(Listening()) + encode(Report(statistics(), [])))
    registry = CollectorRegistry()
    watched = worker(registry)
    with monkeypatch.context() as mistake, capture_logs() as log:
        mistake.setattr(WorkerFigures, "reported", fails)
        await watched.start()
        await reached(lambda: _restarts(registry) >= 1, "its end")
    await reached(lambda: watched.statistics is not None and watched.state is WorkerState.SERVING, "a report")
    assert "worker_not_heard" in [line["event"] for line in log]
    watched._process.kill()  # type: ignore[union-attr]
    await watched.stop()


class Killed:
    """A process that is only ended."""

    stdin = None

    def __init__(self) -> None:
        self.times = 0

    def kill(self) -> None:
        """By force."""
        self.times += 1


async def test_only_a_worker_that_leaves_many_questions_in_a_row_without_an_answer_is_ended() -> None:
    """An answer in between, however late, begins the count anew; one that starts or ends isn't asked."""
    registry = CollectorRegistry()
    watched, process = worker(registry), Killed()
    watched._process = process  # type: ignore[assignment]
    for state in (WorkerState.STARTING, WorkerState.STOPPED, WorkerState.RESTARTING):
        watched.state = state
        await _ask(watched, PATIENCE)
    watched.state = WorkerState.SERVING
    await _ask(watched, PATIENCE - 1)
    assert registry.get_sample_value("headrace_worker_up", {"worker": "0"}) == 0
    watched._hear(Report(statistics(), []))
    assert registry.get_sample_value("headrace_worker_up", {"worker": "0"}) == 1
    await _ask(watched, PATIENCE - 1)
    assert process.times == 0
    await _ask(watched, 2)
    assert process.times == 1, "once is enough"


async def test_a_worker_that_hangs_while_it_is_started_again_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before it was looked at very often; then the next one is started."""
    words, _ = pretending(tmp_path, monkeypatch, encode(Listening()))
    registry = CollectorRegistry()
    watched = worker(registry)
    with capture_logs() as log:
        await watched.start()
        first = watched._process
        assert first is not None
        words.write_bytes(b"")
        first.kill()
        await reached(lambda: watched._process is not first, "its next start")
        await _ask(watched, STARTING_LOOKS - 1)
        assert "worker_hangs" not in [line["event"] for line in log]
        words.write_bytes(encode(Listening()))
        await _ask(watched, 2)
        await reached(lambda: _restarts(registry) == 2, "its end")
        await reached(lambda: watched.state is WorkerState.SERVING, "its new start")
    assert [line["event"] for line in log].count("worker_hangs") == 1, "once is enough"
    watched._process.kill()  # type: ignore[union-attr]
    await watched.stop()


async def _ask(watched: Worker, times: int) -> None:
    """Without waiting for an answer."""
    for _ in range(times):
        await watched.look_after(0)


def _restarts(registry: CollectorRegistry) -> float:
    return registry.get_sample_value("headrace_worker_restarts_total", {"worker": "0"}) or 0.0


async def test_blocks_travel_to_the_live_view_as_they_are() -> None:
    """Only while somebody watches, and only as many as there is room for; the oldest are left out."""
    said: list[Seen] = []
    heard = asyncio.Event()

    def say(seen: Seen) -> None:
        said.append(seen)
        heard.set()

    forwarder = Forwarder(say, lambda: True)
    blocks: list[Block] = chain(6, size=1 << 20)
    forwarder.committed(blocks)
    forwarder.watched = True
    forwarder.committed(blocks)
    await asyncio.wait_for(heard.wait(), 30)
    await forwarder.stop()
    assert len(said) == 1
    assert same([seen.block() for seen in said[0].blocks], blocks[2:])


def test_a_journal_that_nobody_delivers_from_is_named(tmp_path: Path) -> None:
    """It is left from a start with another number of workers; those that are in use are not named."""
    folders = [tmp_path, worker_folder(tmp_path, 0), worker_folder(tmp_path, 1)]
    for node, folder in enumerate(folders, 4):
        Journal(JournalSettings(path=str(folder)), node).close()
    config = replace(Config(), journal=JournalSettings(path=str(tmp_path)))
    with capture_logs() as said:
        warn_of_others(config, worker_folders(config, 1))
    assert [(line["event"], line["folder"], line["node"]) for line in said] == [
        ("journal_of_nobody", str(folders[0]), 4),
        ("journal_of_nobody", str(folders[2]), 6),
    ]
