"""The measured side of a benchmark, in a process of its own: `python -m benchmarks.child KIND OPTIONS`.

It prints where it listens, is told on its standard input how many bytes will come, and when all of them
were processed at the far end it prints what it took and ends. Time runs from the first byte.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from benchmarks.certificates import Plant
from headrace.logs import configure_logs
from ingest.assembler import Numbering
from ingest.claims import Claims
from ingest.clock import StampClock
from ingest.journal import Journal
from ingest.listener import Listener
from ingest.live import LivePublisher
from ingest.metrics import IngestMetrics
from ingest.server import IngestServer
from ingest.settings import IngestSettings, JournalSettings
from ingest.sink import SinkTask
from ingest.supervisor import SinkState
from parser.block import Block
from parser.parsed import ParsedBlock
from parser.settings import Rules
from storage.live import LiveFeed
from storage.settings import CassandraSettings, SqliteSettings, StorageSettings

_LAG_EVERY_S: Final = 0.01
_PATIENCE_S: Final = 600.0
_READY_S: Final = 60.0


class Options(msgspec.Struct, frozen=True):
    """What the parent wants."""

    folder: str = ""
    core: int | None = None
    """Run on this core only."""

    connections: int = 20_000
    cassandra: CassandraSettings = CassandraSettings()
    """Where the kind `cassandra` writes."""

    plant: Plant | None = None
    """Whose certificates are asked for and shown; without it there is no TLS."""

    def ingest(self, **more: object) -> IngestSettings:
        """Free ports, and all that connects."""
        keys = {"port": 0, "max_connections": self.connections, **more}
        return msgspec.convert(keys | (self.plant.serve() if self.plant else {}), IngestSettings)


class Outcome(msgspec.Struct, frozen=True):
    """What the child found."""

    processed: int
    """Records at the far end; bytes for a server that only counts bytes."""

    seconds: float
    cpu_s: float
    memory_mib: float
    lags: list[float] = []
    """Of the event loop, in seconds, sampled every 10 ms."""

    progress: list[tuple[float, int]] = []
    """When how many rows were known to be stored, by the clock that all processes share."""

    requests: int = 0
    """Confirmed by the database."""


class Meter:
    """Counts until everything has come."""

    def __init__(self) -> None:
        self.processed = 0
        self.first = 0.0
        self.last = 0.0
        self._cpu = 0.0
        self.expected: int | None = None
        self.done = asyncio.Event()
        self.lags: list[float] = []
        self.progress: list[tuple[float, int]] = []
        self.requests = 0

    def begin(self) -> None:
        """The first byte is here."""
        if not self.first:
            self.first, self._cpu = time.perf_counter(), _cpu_seconds()

    def count(self, number: int) -> None:
        """So much more was processed."""
        self.begin()
        self.processed += number
        self.last = time.perf_counter()
        self.check()

    def check(self) -> None:
        """Whether that was all."""
        if self.expected is not None and self.processed >= self.expected:
            self.done.set()

    def outcome(self) -> Outcome:
        """What it took."""
        peak = _peak_kib() / 1024
        cpu = _cpu_seconds() - self._cpu
        seconds = self.last - self.first
        return Outcome(self.processed, seconds, cpu, peak, self.lags, self.progress, self.requests)

    async def sample_lag(self) -> None:
        """Measure how late the loop is, for as long as it runs."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_EVERY_S
            await asyncio.sleep(_LAG_EVERY_S)
            self.lags.append(max(0.0, loop.time() - due))


def _cpu_seconds() -> float:
    """Of this process and its living children."""
    total = time.process_time()
    for path in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for child in path.read_text().split():
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _peak_kib() -> int:
    """Of this program alone; getrusage would count the parent from before the exec, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


Kind = Callable[[Options, Meter], Awaitable[list[int]]]


async def counting(options: Options, meter: Meter) -> list[int]:
    """The baseline of framing: a server that only counts bytes."""
    del options

    total = [0]

    class Counting(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            total[0] += len(data)

    async def watch() -> None:
        while True:
            await asyncio.sleep(0.005)
            if total[0] > meter.processed:
                meter.count(total[0] - meter.processed)

    asyncio.get_running_loop().create_task(watch())  # ends with the loop
    server = await asyncio.get_running_loop().create_server(Counting, "127.0.0.1", 0, backlog=4096)
    return [server.sockets[0].getsockname()[1]]


async def discard(options: Options, meter: Meter) -> list[int]:
    """Framed and parsed to columns, on the loop, and thrown away; no journal."""
    loop = asyncio.get_running_loop()

    def submit(block: Block) -> None:
        meter.count(ParsedBlock.of(block).block.records)
        loop.call_soon(listener.assembler.committed, block.id)

    listener = Listener(
        options.ingest(), Rules(), StampClock(), Numbering(1, 0), submit=submit, metrics=IngestMetrics()
    )
    await listener.start("bench")
    return listener.ports


async def durable(options: Options, meter: Meter) -> list[int]:
    """Journaled, acknowledged, and passed by a sink that wants nothing."""
    journal = Journal(JournalSettings(path=f"{options.folder}/journal"), 0)
    metrics = IngestMetrics()
    server = IngestServer(
        options.ingest(ack_port=0),
        Rules(),
        journal,
        Numbering(1, 0),
        sinks={},
        live=LivePublisher(LiveFeed()),
        heard=Claims(metrics.registry).heard,
        metrics=metrics,
    )
    committed = server.listener.assembler.committed

    def count(last: int) -> None:
        committed(last)
        journal.passed("nothing", last)
        meter.processed = 0
        meter.count(journal.tail.next_record)

    server.listener.assembler.committed = count  # type: ignore[method-assign]  # where a block is acknowledged
    await server.start("bench")
    return server.listener.ports


async def store(options: Options, meter: Meter) -> list[int]:
    """The whole way into SQLite rows."""
    sqlite = SqliteSettings(path=f"{options.folder}/tables.db")
    return await _into_rows(options, meter, StorageSettings(sqlite=sqlite))


async def cassandra(options: Options, meter: Meter) -> list[int]:
    """The whole way into Cassandra rows."""
    storage = StorageSettings(backend="cassandra", cassandra=options.cassandra)
    return await _into_rows(options, meter, storage)


async def _into_rows(options: Options, meter: Meter, storage: StorageSettings) -> list[int]:
    journal = Journal(JournalSettings(path=f"{options.folder}/journal"), 0)
    metrics = IngestMetrics()
    server = IngestServer(
        options.ingest(ack_port=0),
        Rules(),
        journal,
        Numbering(1, 0),
        sinks={"tables": SinkTask(str(journal.folder), journal.id, 0, storage)},
        live=LivePublisher(LiveFeed()),
        heard=Claims(metrics.registry).heard,
        metrics=metrics,
    )
    await server.start("bench")
    async with asyncio.timeout(_READY_S):
        while server.statistics.sinks[0].state is not SinkState.RUNNING:  # noqa: ASYNC110  # not measured yet
            await asyncio.sleep(0.05)
    asyncio.get_running_loop().create_task(_watch_rows(metrics, meter))  # ends with the loop
    return server.listener.ports


async def _watch_rows(metrics: IngestMetrics, meter: Meter) -> None:
    while True:
        await asyncio.sleep(0.01)
        rows = int(metrics.stored.labels("tables")._value.get())  # noqa: SLF001  # no public way to read it
        if metrics.received_records._value.get():  # noqa: SLF001
            meter.begin()
        if rows > meter.processed:
            requests = metrics.store_requests.labels("tables", "confirmed")
            meter.requests = int(requests._value.get())  # noqa: SLF001
            meter.progress.append((time.perf_counter(), rows))
            meter.count(rows - meter.processed)


KINDS: Final[dict[str, Kind]] = {
    "counting": counting,
    "discard": discard,
    "durable": durable,
    "store": store,
    "cassandra": cassandra,
}


async def _run(kind: str, options: Options) -> None:
    meter = Meter()
    ports = await KINDS[kind](options, meter)
    _say({"ports": ports, "pid": os.getpid()})
    sampling = asyncio.create_task(meter.sample_lag())
    loop = asyncio.get_running_loop()
    line = await loop.run_in_executor(None, sys.stdin.readline)
    if line.strip():
        meter.expected = int(line)
        meter.check()
        await asyncio.wait_for(meter.done.wait(), _PATIENCE_S)
    sampling.cancel()
    _say(msgspec.to_builtins(meter.outcome()))
    sys.stdout.flush()
    os._exit(0)  # what was measured is over; a long shutdown would be measured by nobody


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run one kind; a name that ends in `-asyncio` runs without uvloop."""
    configure_logs("json")
    kind, options = sys.argv[1], msgspec.json.decode(sys.argv[2], type=Options)
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    if kind.endswith("-asyncio"):
        asyncio.run(_run(kind.removesuffix("-asyncio"), options))
    else:
        uvloop.run(_run(kind, options))


if __name__ == "__main__":
    main()
