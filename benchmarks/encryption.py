"""`bench tls`: the rate of four connections with TLS and without, and what 10 000 idle ones take.

Both ways go through framing and into the journal, one after the other in each run, the server on one core and
the sender on the other. Encrypting costs the sender too: how busy it was stands beside each figure, and where
that is all of its core, it is the sender that was measured.
"""

import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.certificates import Plant
from benchmarks.report import Comparison, Figure, compare, middle
from benchmarks.running import LAST_CORE, allow_files, blast, child, cpu_seconds, pinned, resident_kib
from simulator.blast import prepare

_MACHINE: Final = "gateway"
_IDLE: Final = 10_000
_SPARE_FILES: Final = 300
_THREADS: Final = 4
_ALL_IN_S: Final = 300.0
_SETTLE_S: Final = 1.0


def tls(runs: int, seconds: float) -> tuple[list[Figure], list[Comparison]]:
    """TLS against none, in bulk and with a record a packet; and idle connections."""
    idle_count = min(_IDLE, int(_IDLE * seconds / 2))
    allow_files(idle_count + _SPARE_FILES)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=Path.cwd()) as name:
        plant = Plant.make(Path(name), [_MACHINE])
        rounds = [_rates(plant, seconds) for _ in range(runs)]
        held = [_idle(plant, idle_count) for _ in range(runs)]
    rates = [middle([each[place] for each in rounds]) for place in range(4)]
    plain, encrypted, plain_packets, encrypted_packets = rates
    idle, shaken = (middle([each[place] for each in held]) for place in (0, 1))
    return [*rates, idle, shaken], [
        compare("TLS / plain, 4 connections, in bulk", encrypted.rate / plain.rate, at_least=0.5),
        compare("the same in the server's processor time", _cost(encrypted) / _cost(plain)),
        compare("TLS / plain, a record a packet", encrypted_packets.rate / plain_packets.rate, at_least=0.5),
        compare("the same in the server's processor time", _cost(encrypted_packets) / _cost(plain_packets)),
        compare("resident KiB of an idle TLS connection", idle.rate, at_most=40),
    ]


def _cost(figure: Figure) -> float:
    return figure.cpu_s_per_million or 0.0


def _rates(plant: Plant, seconds: float) -> list[Figure]:
    """Plain and TLS in bulk, plain and TLS with a record in each packet."""
    return [
        _rate(f"{name}, {manner}", of, records, per_packet=manner != "in bulk")
        for manner, records in (
            ("in bulk", int(2_000_000 * seconds)),
            ("a record a packet", int(100_000 * seconds)),
        )
        for name, of in (("plain", None), ("TLS", plant))
    ]


def _rate(name: str, plant: Plant | None, records: int, *, per_packet: bool) -> Figure:
    prepared = prepare(100, 10_000)
    figure, sent = blast(
        "durable",
        prepared,
        max(records, prepared.records),
        per_packet=per_packet,
        core=0,
        plant=plant,
        machine=_MACHINE,
    )
    busy, each = sent.cpu_seconds / sent.seconds, 1e6 * sent.cpu_seconds / sent.sent
    note = f"the sender busy {busy:.0%} of its time, {each:.2f} s / million"
    return msgspec.structs.replace(figure, name=name, note=note)


def _idle(plant: Plant, count: int) -> tuple[Figure, Figure]:
    """What so many connections that say nothing take, and how fast they came in."""
    with child("discard", core=0, plant=plant) as measured:
        before, cpu = resident_kib(measured.pid), cpu_seconds(measured.pid)
        with _crowd(measured.ports[0], plant, count) as took_s:
            time.sleep(_SETTLE_S)
            each = (resident_kib(measured.pid) - before) / count
            used = cpu_seconds(measured.pid) - cpu
        measured.finish(None)
    return (
        Figure(
            name=f"{count} idle TLS connections", rate=each, unit="KiB each", note="each with a certificate"
        ),
        Figure(
            name="handshakes",
            rate=count / took_s,
            unit="handshakes/s",
            cpu_s_per_million=1e6 * used / count,
            note="clients on the other core",
        ),
    )


@contextmanager
def _crowd(port: int, plant: Plant, count: int) -> Iterator[float]:
    """So many connections, from a process of its own; how long it took until all were in."""
    spawning = get_context("spawn")
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=_hold, args=(port, plant, count, theirs), daemon=True)
    with pinned(LAST_CORE):
        process.start()
    theirs.close()
    try:
        if not ours.poll(_ALL_IN_S):
            raise RuntimeError("the idle connections did not come in")
        yield ours.recv()
    finally:
        process.kill()
        process.join()


def _hold(port: int, plant: Plant, count: int, told: Connection) -> None:
    """Connect, say how long that took, and stay."""
    context = plant.client(_MACHINE)

    def connect(_: int) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", port))
        return context.wrap_socket(sock, server_hostname="localhost")

    begun = time.perf_counter()
    with ThreadPoolExecutor(_THREADS) as pool:
        held = list(pool.map(connect, range(count)))
    told.send(time.perf_counter() - begun)
    told.poll(None)  # until the other end is gone
    del held
