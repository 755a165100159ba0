"""`bench ingest`, `durable` and `connections`: sockets to columns, and sockets to the journal."""

import socket
import tempfile
import time
from pathlib import Path

from benchmarks.report import Comparison, Figure, compare, middle, percentiles
from benchmarks.running import blast, child, resident_kib
from ingest.clock import ClockReading
from ingest.journal.segment import Segment, SegmentHead
from parser.block import Block, chunk_table
from parser.framing import Chunk, Ending
from parser.settings import Rules
from simulator.blast import Prepared, prepare, send

_BLOCK_RECORDS = 35_000


def ingest(runs: int, seconds: float) -> tuple[list[Figure], list[Comparison]]:
    """Framed and parsed, then thrown away; the server on one core, the sender on the other."""
    prepared = prepare(100, 100_000)
    many = int(3_000_000 * seconds)
    few = int(150_000 * seconds)

    def streams(kind: str) -> Figure:
        found = [blast(kind, prepared, many, core=0, note="4 connections")[0] for _ in range(runs)]
        return middle(found)

    def packets(kind: str) -> Figure:
        small = prepare(1000, 1000)
        found = [
            blast(kind, small, few, connections=1000, per_packet=True, core=0, note="1000, a record each")[0]
            for _ in range(runs)
        ]
        return middle(found)

    full, without = streams("discard"), streams("discard-asyncio")
    counting, packeted = packets("counting"), packets("discard")
    return [full, without, counting, packeted], [
        compare("to discard, million records/s", full.rate / 1e6, at_least=2),
        compare("uvloop / asyncio without it", full.rate / without.rate),
        compare("1000 connections / a server that only counts bytes", packeted.rate / counting.rate, 0.8),
    ]


def durable(runs: int, seconds: float) -> tuple[list[Figure], list[Comparison]]:
    """Journaled and acknowledged; and the same blocks committed without sockets."""
    prepared = prepare(100, 100_000)
    full = middle([blast("durable", prepared, int(1_500_000 * seconds), ack=True)[0] for _ in range(runs)])
    raw = middle([_raw_commits(seconds) for _ in range(runs)])
    paced = [_paced_acks(100_000, seconds) for _ in range(runs)]
    latency = middle(paced)
    found = latency.percentiles_ms or {}
    return [full, raw, latency], [
        compare("durable and acknowledged, million records/s", full.rate / 1e6, at_least=1),
        compare("with sockets / raw commits of ready blocks", full.rate / raw.rate),
        compare("acknowledgement p99 at 100 000 records/s, ms", found["p99"], at_most=50),
    ]


def _raw_commits(seconds: float) -> Figure:
    payload = prepare(100, _BLOCK_RECORDS).payload
    chunks, data = chunk_table([(1, Chunk(payload, _BLOCK_RECORDS, 0, Ending.DELIMITER))])
    count = max(10, int(40 * seconds))
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=Path.cwd()) as folder:
        segment = Segment(Path(folder) / "raw.db", create=True)
        segment.begin(SegmentHead("raw", 0, 1, 0, ClockReading.now()))
        begun, cpu = time.perf_counter(), time.process_time()
        for number in range(1, count + 1):
            first = (number - 1) * _BLOCK_RECORDS
            segment.append([Block(number, 0, first, number, Rules(), (), chunks, data)])
        elapsed, used = time.perf_counter() - begun, time.process_time() - cpu
        segment.close()
    records = count * _BLOCK_RECORDS
    return Figure(name="raw blob commits", rate=records / elapsed, cpu_s_per_million=1e6 * used / records)


def _paced_acks(rate: int, seconds: float) -> Figure:
    """The time from sending a packet to the acknowledgement that covers it, at a steady rate."""
    per_packet, every = rate // 100, 0.01
    payload = prepare(100, per_packet).payload
    with child("durable") as measured:
        sock = socket.create_connection(("127.0.0.1", measured.ports[1]))
        sock.setblocking(False)
        sent: list[float] = []
        latencies: list[float] = []
        buffer = b""
        begun = time.perf_counter()
        packets = int(100 * seconds)
        while len(latencies) < packets:
            now = time.perf_counter()
            while len(sent) < packets and now >= begun + every * len(sent):
                sock.sendall(payload)
                sent.append(now)
            buffer += _received(sock)
            *acks, buffer = buffer.split(b"#")
            if acks:
                covered = int(acks[-1].split(b",")[1]) // per_packet
                latencies += [time.perf_counter() - at for at in sent[len(latencies) : covered]]
            time.sleep(0.0005)
        sock.close()
        outcome = measured.finish(packets * per_packet)
    return Figure(
        name=f"acknowledgement at {rate} records/s",
        rate=outcome.processed / outcome.seconds,
        cpu_s_per_million=1e6 * outcome.cpu_s / outcome.processed,
        memory_mib=outcome.memory_mib,
        percentiles_ms=percentiles(latencies),
    )


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except BlockingIOError:
        return b""


def connections(runs: int, seconds: float) -> tuple[list[Figure], list[Comparison]]:
    """10 000 idle connections and 500 that send; what an idle one costs."""
    found = [_connections(10_000, 500, int(100_000 * seconds)) for _ in range(runs)]
    idle = middle([pair[0] for pair in found])
    active = middle([pair[1] for pair in found])
    return [idle, active], [compare("resident KiB of an idle connection", idle.rate, at_most=8)]


def _connections(idle: int, active: int, records: int) -> tuple[Figure, Figure]:
    prepared: Prepared = prepare(active, active)
    records -= records % prepared.records
    with child("discard") as measured:
        before = resident_kib(measured.pid)
        held = [_connect(measured.ports[0]) for _ in range(idle)]
        time.sleep(1.0)
        each = (resident_kib(measured.pid) - before) / idle
        sent = send(
            "127.0.0.1", measured.ports[0], prepared, connections=active, records=records, per_packet=True
        )
        outcome = measured.finish(sent.sent)
        for sock in held:
            sock.close()
    memory = Figure(name=f"{idle} idle connections", rate=each, unit="KiB each")
    rate = Figure(
        name=f"{active} active beside {idle} idle",
        rate=outcome.processed / outcome.seconds,
        cpu_s_per_million=1e6 * outcome.cpu_s / outcome.processed,
        memory_mib=outcome.memory_mib,
        note="a record a packet",
    )
    return memory, rate


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))
