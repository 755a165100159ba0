"""A sink's process: killed, stopped, orphaned or doubled, every record is in the tables exactly once."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import apsw
import msgspec
import pytest
from structlog.testing import capture_logs

from ingest import supervisor as supervising
from ingest.claims import Sighting
from ingest.metrics import IngestMetrics
from ingest.sink import SinkReport, SinkTask
from ingest.supervisor import SinkState, Supervisor
from parser.block import Block, chunk_table
from parser.framing import Chunk, Ending
from storage.base import Requests
from storage.settings import SqliteSettings, StorageSettings
from tests.ingest.building import NODE, RULES, Desk, until
from tests.ingest.floor import reached

pytestmark = pytest.mark.fault

_RECORDS = 20
_DAY_US = 86_400_000_000


class Line:
    """A journal that is being written, a database, and a supervised sink between them."""

    def __init__(self, folder: Path, keep_days: float | None = None) -> None:
        self.stamp_us = 1_700_000_000_000_000
        self.database = folder / "tables" / "headrace.db"
        self.database.parent.mkdir()
        self.desk = Desk(folder / "journal")
        storage = StorageSettings(sqlite=SqliteSettings(path=str(self.database)), keep_days=keep_days)
        self.task = SinkTask(str(self.desk.folder), self.desk.journal.id, NODE, storage)
        self.metrics = IngestMetrics()
        self.progress: list[int] = []
        self.heard: list[Sighting] = []
        self.supervisor = Supervisor(
            "sqlite", self.task, self.metrics, self.progress.append, self.heard.extend
        )
        self.last: Block | None = None

    def commit(self, count: int = 1) -> None:
        """More blocks, each record with its own number in it."""
        for _ in range(count):
            number, first = (self.last.id + 1, self.last.next_record) if self.last else (1, 0)
            data = b"".join(
                b"E%04d,35.2,%d,2.5,3.7,380#" % (n % 7, n) for n in range(first, first + _RECORDS)
            )
            table, payload = chunk_table([(1, Chunk(data, _RECORDS, 0, Ending.DELIMITER))])
            self.stamp_us += 20_000
            self.last = Block(number, NODE, first, self.stamp_us, RULES, (), table, payload)
            self.desk.commit([self.last])
            self.supervisor.committed(number, number * 1_000_000)

    @property
    def sent(self) -> int:
        """Records committed so far."""
        return self.last.next_record if self.last else 0

    def query(self, statement: str) -> list[int]:
        """The first column of what a query finds."""
        with apsw.Connection(str(self.database), flags=apsw.SQLITE_OPEN_READONLY) as db:
            db.set_busy_timeout(10_000)  # a sink that was killed has left a log to recover
            found = [int(row[0]) for row in db.execute(statement)]
        db.close()
        return found

    def is_complete(self) -> bool:
        """Whether rows and ledger both hold every record once."""
        rows = self.query("SELECT CAST(spindle_speed_rpm AS INTEGER) FROM readings ORDER BY 1")
        return rows == list(range(self.sent)) and self.query("SELECT sum(stored) FROM ledger") == [self.sent]

    def process(self) -> int:
        """The process that works now."""
        assert self.supervisor.statistics.pid is not None
        return self.supervisor.statistics.pid

    async def is_running(self) -> None:
        """Wait until the sink works."""
        await reached(lambda: self.supervisor.statistics.state is SinkState.RUNNING, "the sink")


@asynccontextmanager
async def running(folder: Path, keep_days: float | None = None) -> AsyncIterator[Line]:
    """A line whose sink works."""
    line = Line(folder, keep_days)
    line.supervisor.start()
    try:
        await line.is_running()
        yield line
    finally:
        await line.supervisor.stop()
        line.desk.close()


async def test_what_is_committed_comes_into_the_tables(tmp_path: Path) -> None:
    async with running(tmp_path) as line:
        line.commit(30)
        assert await line.supervisor.flush(30)
        assert line.is_complete()
        assert line.progress == sorted(line.progress)
        assert line.supervisor.statistics.block == 30
        assert line.metrics.stored.labels("sqlite")._value.get() == line.sent


async def test_what_is_old_by_the_newest_stamp_is_deleted(tmp_path: Path) -> None:
    """Behind the first write of a sink; then once a minute."""
    async with running(tmp_path, keep_days=1.0) as line:
        line.commit(10)
        assert await line.supervisor.flush(30)
        os.kill(line.process(), signal.SIGKILL)
        line.stamp_us += 2 * _DAY_US
        line.commit(10)
        await reached(lambda: line.query("SELECT count(*) FROM readings") == [10 * _RECORDS], "the purge")
        assert line.query("SELECT sum(stored) FROM ledger") == [10 * _RECORDS]


async def test_a_purge_that_fails_keeps_no_row_from_being_written(tmp_path: Path) -> None:
    """It is said, and tried again a minute later."""
    async with running(tmp_path, keep_days=1.0) as line:
        line.commit(10)
        assert await line.supervisor.flush(30)
        with apsw.Connection(str(line.database)) as db:
            db.set_busy_timeout(10_000)
            db.execute("CREATE TRIGGER no DELETE ON readings BEGIN SELECT RAISE(ABORT, 'not this'); END")
        db.close()
        os.kill(line.process(), signal.SIGKILL)
        line.stamp_us += 2 * _DAY_US
        with capture_logs() as lines:
            line.commit(10)
            await reached(lambda: "nothing_is_purged" in [each["event"] for each in lines], "the word")
            for _ in range(5):
                line.commit(10)
                assert await line.supervisor.flush(30)
        assert line.is_complete()
        assert "sink_waits" not in [each["event"] for each in lines]


async def test_a_purge_that_stands_still_is_shown_until_it_goes_on(tmp_path: Path) -> None:
    """Also where it goes on in another process than the one that told of it; said only where it is news."""
    async with running(tmp_path, keep_days=1.0) as line:
        held = line.metrics.purge_held.labels("sqlite")._value
        with capture_logs() as lines:
            line.commit(10)
            assert await line.supervisor.flush(30)
            assert held.get() == 0
            with closing(apsw.Connection(str(line.database))) as db:
                db.set_busy_timeout(10_000)
                db.execute("CREATE TRIGGER no DELETE ON readings BEGIN SELECT RAISE(ABORT, 'not this'); END")
            os.kill(line.process(), signal.SIGKILL)
            line.stamp_us += 2 * _DAY_US
            line.commit(10)
            await reached(lambda: held.get() == 1, "the purge that fails")
            with closing(apsw.Connection(str(line.database))) as db:
                db.set_busy_timeout(10_000)
                db.execute("DROP TRIGGER no")
            os.kill(line.process(), signal.SIGKILL)
            line.commit(10)
            await reached(lambda: held.get() == 0, "the purge that goes on")
        told = [each["event"] for each in lines if "purg" in each["event"]]
        assert told == ["nothing_is_purged", "purging_goes_on"]


async def test_by_stamps_far_ahead_of_the_clock_nothing_is_deleted(tmp_path: Path) -> None:
    """Others may have rows in these tables; it is said once."""
    with capture_logs() as lines:
        async with running(tmp_path, keep_days=1.0) as line:
            line.commit(10)
            assert await line.supervisor.flush(30)
            os.kill(line.process(), signal.SIGKILL)
            line.stamp_us = time.time_ns() // 1_000 + 2 * _DAY_US
            line.commit(10)
            await reached(lambda: "nothing_is_purged" in [each["event"] for each in lines], "the word")
            line.commit(10)
            assert await line.supervisor.flush(30)
            assert line.is_complete()
    assert [each["event"] for each in lines].count("nothing_is_purged") == 1


async def test_a_killed_sink_is_started_again_and_writes_nothing_twice(tmp_path: Path) -> None:
    """At whatever moment it was killed."""
    picked = random.Random(5)  # noqa: S311
    async with running(tmp_path) as line:
        for restarts in range(1, 5):
            line.commit(picked.randrange(1, 40))
            await asyncio.sleep(picked.random() * 0.1)
            pid = line.process()
            os.kill(pid, signal.SIGKILL)
            line.commit(picked.randrange(1, 40))
            await reached(lambda pid=pid: line.process() != pid, "a new process")  # type: ignore[misc]
            await line.is_running()
            assert line.metrics.sink_restarts.labels("sqlite")._value.get() == restarts
        assert await line.supervisor.flush(30)
        assert line.is_complete()


async def test_a_sink_that_can_not_start_or_talks_nonsense_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a descriptor or memory for its process, or with a library that prints: both pass."""
    python, program = sys.executable, tmp_path / "sink"
    program.write_text("#!/bin/sh\necho nonsense\nexec sleep 600\n")
    program.chmod(0o700)
    async with running(tmp_path) as line:
        restarts = line.metrics.sink_restarts.labels("sqlite")._value
        monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
        os.kill(line.process(), signal.SIGKILL)
        await reached(lambda: restarts.get() >= 2, "a start that fails")
        line.commit()
        assert "can't be started" in line.supervisor.statistics.trouble
        monkeypatch.setattr(sys, "executable", str(program))
        with capture_logs() as said:
            await reached(lambda: "sink_not_understood" in [line["event"] for line in said], "nonsense")
        monkeypatch.setattr(sys, "executable", python)
        line.commit(3)
        assert await line.supervisor.flush(30)
        assert line.is_complete()


_STARVED = """
import asyncio, os, resource, sys, uvloop
from ingest.metrics import IngestMetrics
from ingest.sink import SinkTask
from ingest.supervisor import Supervisor
from storage.settings import StorageSettings

def is_open():
    return len(os.listdir("/proc/self/fd"))

async def main():
    task = SinkTask("", "", 0, StorageSettings())
    supervisor = Supervisor("sqlite", task, IngestMetrics(), lambda block: None, lambda sightings: None)
    sys.executable = sys.argv[1]
    assert await supervisor._run() == 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    before = is_open()
    for free in range(12):
        taken = []
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        for _ in range(free):
            os.close(taken.pop())
        assert await supervisor._run() is None
        for descriptor in taken:
            os.close(descriptor)
    await asyncio.sleep(0.1)
    assert is_open() == before, (is_open(), before)
    assert await supervisor._run() == 0

uvloop.run(main())
"""


def test_starts_that_fail_for_want_of_descriptors_leave_none_open(tmp_path: Path) -> None:
    """However many are left; else a shortage that passes takes some for good each time."""
    program = tmp_path / "sink"
    program.write_text("#!/bin/sh\nread -r task\n")
    program.chmod(0o700)
    command = [sys.executable, "-c", _STARVED, str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


async def test_a_sink_that_ends_before_it_is_told_anything_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pipe may be closed by then, and writing to it a mistake."""
    start, waited = asyncio.create_subprocess_exec, 0

    async def ends_at_once(*command: str, stdin: int, stdout: int) -> asyncio.subprocess.Process:
        nonlocal waited
        process = await start(*command, stdin=stdin, stdout=stdout)
        if waited < 2:
            waited += 1
            process.kill()
            await process.wait()
            await asyncio.sleep(0.05)  # the loop sees that nobody reads any more
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", ends_at_once)
    async with running(tmp_path) as line:
        line.commit(3)
        assert await line.supervisor.flush(30)
        assert line.metrics.sink_restarts.labels("sqlite")._value.get() == 2


async def test_a_report_that_we_can_not_take_ends_the_sink_and_not_its_watch(tmp_path: Path) -> None:
    """A mistake of ours: it is started again, and nothing is written twice."""
    line = Line(tmp_path)
    progress, mistakes = line.supervisor._on_progress, iter([ZeroDivisionError("on purpose")])

    def fails_once(block: int) -> None:
        for mistake in mistakes:
            raise mistake
        progress(block)

    line.supervisor._on_progress = fails_once
    watching = line.supervisor.start()
    try:
        with capture_logs() as said:
            line.commit(3)
            await reached(
                lambda: line.metrics.sink_restarts.labels("sqlite")._value.get() == 1, "the restart"
            )
            line.commit(3)
            await reached(lambda: line.progress, "progress")
        assert await line.supervisor.flush(30)
        assert line.is_complete()
        assert "sink_not_heard" in [line["event"] for line in said]
        assert not watching.done()
    finally:
        await line.supervisor.stop()
        line.desk.close()


async def test_a_sink_that_hangs_delays_only_itself(tmp_path: Path) -> None:
    """A bounded flush says so; when it goes on, it catches up."""
    async with running(tmp_path) as line:
        pid = line.process()
        os.kill(pid, signal.SIGSTOP)
        line.commit(20)
        assert not await line.supervisor.flush(0.2)
        os.kill(pid, signal.SIGCONT)
        assert await line.supervisor.flush(30)
        assert line.is_complete()


async def test_a_sink_that_hangs_for_long_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one that has work to do: it has said nothing while there was none, either."""
    monkeypatch.setattr(supervising, "SILENT_S", 1.0)
    monkeypatch.setattr(supervising, "_LOOK_S", 0.1)
    async with running(tmp_path) as line:
        line.commit(5)
        assert await line.supervisor.flush(30)
        pid = line.process()
        await asyncio.sleep(2)
        line.commit(5)
        assert await line.supervisor.flush(30)
        assert line.process() == pid
        os.kill(pid, signal.SIGSTOP)
        with capture_logs() as lines:
            line.commit(20)
            assert await line.supervisor.flush(30)
        assert [each["event"] for each in lines].count("sink_hangs") == 1
        assert line.process() != pid
        assert line.is_complete()


async def test_a_server_that_stood_still_ends_no_sink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sink's answer came meanwhile; it waits to be read."""
    monkeypatch.setattr(supervising, "SILENT_S", 1.0)
    monkeypatch.setattr(supervising, "_LOOK_S", 0.1)
    async with running(tmp_path) as line:
        pid = line.process()
        os.kill(pid, signal.SIGSTOP)
        line.commit(5)
        await asyncio.sleep(0.05)  # it is told
        os.kill(pid, signal.SIGCONT)
        with capture_logs() as lines:
            time.sleep(2)  # noqa: ASYNC251  # nothing in this process goes on
            assert await line.supervisor.flush(30)
        assert "sink_hangs" not in [each["event"] for each in lines]
        assert line.process() == pid


async def test_a_second_writer_on_the_same_tables_writes_nothing_twice(tmp_path: Path) -> None:
    """A sink that survived its parent may still be there: the cursor moves by compare-and-set."""
    async with running(tmp_path) as line:
        orphan = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "ingest.sink",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        assert orphan.stdin is not None
        orphan.stdin.write(msgspec.json.encode(line.task) + b"\n")
        for _ in range(60):
            line.commit()
            orphan.stdin.write(b"%d\n" % line.supervisor.statistics.newest)
            await asyncio.sleep(0.01)
        await reached(line.is_complete, "all rows")
        orphan.stdin.close()
        assert await asyncio.wait_for(orphan.wait(), 30) == 0
        assert line.is_complete()
        line.commit(5)
        assert await line.supervisor.flush(30)
        assert line.is_complete()


async def test_a_report_without_requests_leaves_the_limit_as_it_was(tmp_path: Path) -> None:
    """While nothing is written, what became durable is reported all the same."""
    line = Line(tmp_path)
    try:
        line.supervisor._hear(SinkReport(1, requests=Requests(confirmed=3, limit=8)))
        line.supervisor._hear(SinkReport(1, durable=1))
        assert line.metrics.store_in_flight.labels("sqlite")._value.get() == 8
        assert line.metrics.store_requests.labels("sqlite", "confirmed")._value.get() == 3
    finally:
        line.desk.close()


def test_a_sink_that_meets_what_nobody_foresaw_says_it_and_ends(tmp_path: Path) -> None:
    """At once, although a thread still listens to its parent."""
    line = Line(tmp_path)
    line.desk.close()
    program = "from ingest import sink; sink._run_once = lambda *_: 1 // 0; sink.main()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(msgspec.json.encode(line.task) + b"\n")
        process.stdin.flush()
        said = process.stderr.read()
        assert process.wait(30) == 1
    assert said.endswith(b"ZeroDivisionError: integer division or modulo by zero\n")
    assert b"Fatal" not in said


async def test_tables_that_cannot_be_written_are_waited_for(tmp_path: Path) -> None:
    """The sink says why, and goes on by itself."""
    line = Line(tmp_path)
    line.database.mkdir()
    line.supervisor.start()
    try:
        line.commit(3)
        await reached(lambda: line.supervisor.statistics.state is SinkState.WAITING, "the trouble")
        assert "headrace.db" in line.supervisor.statistics.trouble
        assert not await line.supervisor.flush(0.1)
        line.database.rmdir()
        assert await line.supervisor.flush(30)
        assert line.supervisor.statistics.trouble == ""
        assert line.is_complete()
    finally:
        await line.supervisor.stop()
        line.desk.close()


async def test_a_stopped_sink_is_gone(tmp_path: Path) -> None:
    async with running(tmp_path) as line:
        pid = line.process()
        line.commit(5)
        await line.supervisor.stop()
        assert line.supervisor.statistics.state is SinkState.STOPPED
        assert not _lives(pid)


def _lives(pid: int) -> bool:
    """Whether a process is there, and not only what nobody has waited for."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


_PARENT = """
import asyncio, sys, msgspec
from ingest.metrics import IngestMetrics
from ingest.sink import SinkReport, SinkTask
from ingest.supervisor import SinkState, Supervisor

async def main():
    task = msgspec.json.decode(sys.argv[1], type=SinkTask)
    supervisor = Supervisor("sqlite", task, IngestMetrics(), lambda block: None, lambda sightings: None)
    supervisor.start()
    while supervisor.statistics.state is not SinkState.RUNNING:
        await asyncio.sleep(0.01)
    print(supervisor.statistics.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_sink_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """So the next server finds no other writer."""
    line = Line(tmp_path)
    line.commit(3)
    command = [sys.executable, "-c", _PARENT, msgspec.json.encode(line.task).decode()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        sink = int(parent.stdout.readline())
        assert _lives(sink)
        parent.kill()
    until(lambda: not _lives(sink), "the end of the sink")
    line.desk.close()
