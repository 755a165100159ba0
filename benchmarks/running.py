"""Starting a measured process, sending to it or beside it, and hearing what it took."""

import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.certificates import Plant
from benchmarks.child import Options, Outcome
from benchmarks.report import Figure, percentiles
from simulator.blast import BlastResult, Prepared, prepare, send
from storage.settings import CassandraSettings

LAST_CORE: Final = max(os.sched_getaffinity(0))
"""Where what is not measured runs, when the measured process has one of its own."""

_LONGEST_S: Final = 3600.0
_END_S: Final = 10.0


class Child:
    """A measured process."""

    def __init__(self, kind: str, options: Options) -> None:
        """Start it, and wait until it listens."""
        self.folder = Path(options.folder)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", kind, msgspec.json.encode(options).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            ready = json.loads(self._line())
        except BaseException:
            self.stop()
            raise
        self.ports: list[int] = ready["ports"]
        self.pid: int = ready["pid"]

    def finish(self, expected: int | None) -> Outcome:
        """Wait until so much was processed (records, or bytes); None ends it as it is."""
        assert self._process.stdin is not None  # noqa: S101  # both are pipes
        self._process.stdin.write("\n" if expected is None else f"{expected}\n")
        self._process.stdin.flush()
        outcome = msgspec.convert(json.loads(self._line()), Outcome)
        self._process.wait(30)
        return outcome

    def stop(self) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None  # noqa: S101  # both are pipes
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the measured process ended before it was done")
        return line


@contextmanager
def child(
    kind: str,
    *,
    core: int | None = None,
    connections: int = 20_000,
    cassandra: CassandraSettings | None = None,
    plant: Plant | None = None,
) -> Iterator[Child]:
    """A measured process for as long as the context lasts, in a folder of its own on the local disk."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=Path.cwd()) as folder:
        started = Child(kind, Options(folder, core, connections, cassandra or CassandraSettings(), plant))
        try:
            yield started
        finally:
            started.stop()


def blast(
    kind: str,
    prepared: Prepared,
    records: int,
    *,
    connections: int = 4,
    per_packet: bool = False,
    ack: bool = False,
    rate: float | None = None,
    core: int | None = None,
    cassandra: CassandraSettings | None = None,
    plant: Plant | None = None,
    machine: str = "",
    note: str = "",
) -> tuple[Figure, BlastResult]:
    """Send so many records to a process, as fast as it takes them or at a rate; what it took.

    With a plant they go over TLS, as this machine of it.
    """
    records -= records % prepared.records
    with (
        child(kind, core=core, cassandra=cassandra, plant=plant) as measured,
        pinned(None if core is None else LAST_CORE),
    ):
        port = measured.ports[1] if ack else measured.ports[0]
        sent = send(
            "127.0.0.1",
            port,
            prepared,
            connections=connections,
            records=records,
            rate=rate,
            per_packet=per_packet,
            ack=ack,
            tls=plant.client(machine) if plant else None,
        )
        in_bytes = kind.startswith("counting")
        size = len(prepared.payload) / prepared.records
        outcome = measured.finish(int(sent.sent * size) if in_bytes else sent.sent)
    processed = sent.sent if in_bytes else outcome.processed
    figure = Figure(
        name=kind,
        rate=processed / outcome.seconds,
        cpu_s_per_million=1e6 * outcome.cpu_s / processed,
        memory_mib=outcome.memory_mib,
        percentiles_ms={f"loop lag {k}": v for k, v in percentiles(outcome.lags).items()} or None,
        note=note,
    )
    return figure, sent


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Keep this process on one core meanwhile."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def sending(port: int, prepared: Prepared, rate: float) -> Iterator[None]:
    """Send at a steady rate meanwhile, from a process of its own."""
    spawning = get_context("spawn")  # a driver's threads don't survive a fork
    begun = spawning.Event()
    process = spawning.Process(target=_send, args=(port, prepared, rate, begun), daemon=True)
    process.start()
    try:
        if not begun.wait(_END_S):
            raise RuntimeError("the sender did not begin")
        yield
    finally:
        process.kill()
        process.join(_END_S)


def _send(port: int, prepared: Prepared, rate: float, begun: Event) -> None:
    begun.set()
    send("127.0.0.1", port, prepared, connections=4, duration_s=_LONGEST_S, rate=rate)


def send_marks(port: int, devices: int, packets: int, per_packet: int, sent: list[float]) -> None:
    """Send a packet every 10 ms; its last record is of `mark` and carries the packet's number as speed.

    `sent` gets the moment of each.
    """
    filler = prepare(devices, per_packet - 1).payload
    with socket.create_connection(("127.0.0.1", port)) as sock:
        begun = time.perf_counter()
        for number in range(packets):
            time.sleep(max(0.0, begun + 0.01 * number - time.perf_counter()))
            sent.append(time.perf_counter())
            sock.sendall(filler + b"mark,1,%d,1,1,1#" % number)


def allow_files(count: int) -> None:
    """Let this process, and those that it starts, have so many files open.

    Raises:
        RuntimeError: more than an administrator allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise RuntimeError(f"{count} open files are needed, and {hard} allowed (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its living children."""
    pids = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        pids += map(int, path.read_text().split())
    ticks = 0
    for one in pids:
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    """The most memory that a process had resident."""
    return _memory_kib(pid, "VmHWM") / 1024


def resident_kib(pid: int) -> int:
    """What a process has resident now."""
    return _memory_kib(pid, "VmRSS")


def _memory_kib(pid: int, which: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which))
