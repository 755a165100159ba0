"""The part `latency`: from sending a record to the moment its row can be read, at half the ceiling.

Another connection asks for the newest row of one device, in `readings`: not in `latest_readings`, whose rows
go out first.
"""

import asyncio
import threading
import time
from typing import Final

from benchmarks.cassandra.bench import Bench, Found
from benchmarks.cassandra.ready import DEVICES
from benchmarks.cassandra.sockets import ceiling
from benchmarks.cassandra.target import Stopwatch
from benchmarks.report import Figure, compare, middle, percentiles
from benchmarks.running import child, send_marks
from storage.cassandra.reader import CassandraReadingStore
from storage.cassandra.schema import HOUR_MS
from storage.settings import CassandraSettings

_LOOK_S: Final = 0.005
_PACKETS_A_SECOND: Final = 100


def latency(bench: Bench) -> Found:
    """At half of what the whole way can do."""
    rate = ceiling(bench) / 2
    figure = middle([_latency(bench, rate) for _ in range(bench.runs)])
    return [figure], [compare("sent to readable row p99, s", figure.rate / 1000, at_most=2)]


def _latency(bench: Bench, rate: float) -> Figure:
    per_packet = max(2, round(rate / _PACKETS_A_SECOND))
    packets = max(1, bench.rows // per_packet)
    sent: list[float] = []
    with bench.target.keyspace() as settings, child("cassandra", cassandra=settings) as measured:
        stopwatch = Stopwatch(bench.target)
        marks = (measured.ports[0], DEVICES, packets, per_packet, sent)
        sending = threading.Thread(target=send_marks, args=marks)
        sending.start()
        seen = asyncio.run(_watch_mark(settings, packets, sent))
        sending.join()
        outcome = measured.finish(packets * per_packet)
        store_cpu = stopwatch.store_cpu_s_per_million(outcome.processed)
    found = percentiles(seen)
    return Figure(
        name="sent to readable row, p99",
        rate=found["p99"],
        unit="ms",
        cpu_s_per_million=1e6 * outcome.cpu_s / outcome.processed,
        store_cpu_s_per_million=store_cpu,
        memory_mib=outcome.memory_mib,
        percentiles_ms=found,
        note=f"at {outcome.processed / outcome.seconds:,.0f} rows/s, half the ceiling",
    )


async def _watch_mark(settings: CassandraSettings, packets: int, sent: list[float]) -> list[float]:
    """Ask for the newest mark, and take the time of each that has become visible."""
    store = CassandraReadingStore(settings)
    start = int(time.time() * 1000) - HOUR_MS
    seen: list[float] = []
    try:
        while len(seen) < packets:
            rows = await store.history("mark", start, start + 3 * HOUR_MS, limit=1)
            now = time.perf_counter()
            newest = int(rows[0].spindle_speed_rpm) if rows else -1
            seen += [now - at for at in sent[len(seen) : newest + 1]]
            await asyncio.sleep(_LOOK_S)
    finally:
        await store.close()
    return seen
