"""`bench store`, `latency` and `read`: sockets to SQLite rows, and reading them while they are written."""

import asyncio
import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import numpy as np

from benchmarks.plain import parse_plainly
from benchmarks.report import Comparison, Figure, compare, middle, percentiles
from benchmarks.running import blast, child, send_marks
from parser.columns import parse_columns
from parser.settings import Rules
from simulator.blast import prepare
from storage.rows import Rows
from storage.sqlite.connect import open_for_writing, transaction
from storage.sqlite.insert import insert_readings
from storage.sqlite.reader import SqliteReadingStore

_DEVICES = 100
_BATCH_ROWS = 280_000
"""As many as a sink writes at once when it is behind: 8 MiB."""


def store(runs: int, seconds: float) -> tuple[list[Figure], list[Comparison]]:
    """The whole way into rows, against inserting ready rows, and a row at a time, into the same table."""
    records = int(200_000 * seconds)
    prepared = prepare(_DEVICES, 100_000)
    whole = middle([blast("store", prepared, records, note="sockets to rows")[0] for _ in range(runs)])
    ready = middle([_ready_rows(records) for _ in range(runs)])
    steady = middle(
        [
            blast("store", prepared, records, rate=0.95 * whole.rate, note="sent at 95 % of that")[0]
            for _ in range(runs)
        ]
    )
    single = middle([_row_at_a_time(prepared.payload, records // 4) for _ in range(runs)])
    lag = (steady.percentiles_ms or {})["loop lag p99"]
    return [whole, ready, single, steady], [
        compare("sockets to rows / inserting ready rows", whole.rate / ready.rate, at_least=0.8),
        compare("sockets to rows / a row at a time", whole.rate / single.rate),
        compare("event-loop lag p99 at the ceiling, ms", lag, at_most=20),
    ]


def _ready_rows(records: int) -> Figure:
    """Columns that are in memory already, inserted in batches like those of the sink."""
    parsed = parse_columns(prepare(_DEVICES, _BATCH_ROWS).payload, Rules(), {})

    def write(db: apsw.Connection, path: Path, first: int, count: int) -> None:
        numbers = np.arange(first, first + count, dtype=np.int64)
        stamps = (1_700_000_000_000 + numbers // 1750) * 1000
        _insert_batch(
            db,
            path,
            Rows(parsed.devices, parsed.codes[:count], stamps, numbers, parsed.values[:, :count]),
        )

    return _insert("inserting ready rows", records, write)


def _insert_batch(db: apsw.Connection, path: Path, rows: Rows) -> None:
    with transaction(db, path):
        insert_readings(db, rows)


def _row_at_a_time(payload: bytes, records: int) -> Figure:
    """Plain Python: parse a record, execute an insert; a transaction for 10 000 rows."""
    parsed, _ = parse_plainly(payload)

    def write(db: apsw.Connection, path: Path, first: int, count: int) -> None:
        for begin in range(first, first + count, 10_000):
            with transaction(db, path):
                for number in range(begin, min(begin + 10_000, first + count)):
                    device, *values = parsed[number % len(parsed)]
                    db.execute(
                        "INSERT INTO readings VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                        (device, 1_700_000_000_000 + number // 1000, number, *values),
                    )

    return _insert("a row at a time", records, write)


def _insert(name: str, records: int, write: Callable[[apsw.Connection, Path, int, int], None]) -> Figure:
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=Path.cwd()) as folder:
        path = Path(folder) / "tables.db"
        db = open_for_writing(path)
        begun, cpu = time.perf_counter(), time.process_time()
        for first in range(0, records, _BATCH_ROWS):
            write(db, path, first, min(_BATCH_ROWS, records - first))
        elapsed, used = time.perf_counter() - begun, time.process_time() - cpu
        db.close()
    return Figure(name=name, rate=records / elapsed, cpu_s_per_million=1e6 * used / records)


def _columns(first: int, count: int, received_at: int, per_ms: int) -> Rows:
    """Rows of devices that take turns, so many in a millisecond."""
    numbers = np.arange(first, first + count, dtype=np.int64)
    values = np.stack([20 + numbers % 70, numbers % 9000, numbers % 9, numbers % 7, 380 + numbers % 20])
    return Rows(
        [f"E{device:04}" for device in range(1, _DEVICES + 1)],
        (numbers % _DEVICES).astype(np.int32),
        (received_at + (numbers - first) // per_ms) * 1000,
        numbers,
        values.astype(np.float64),
    )


def latency(runs: int, seconds: float) -> tuple[list[Figure], list[Comparison]]:
    """From sending a record to the moment another process can read its row, at 20 000 records/s."""
    figure = middle([_latency(20_000, seconds) for _ in range(runs)])
    found = (figure.percentiles_ms or {})["p99"]
    return [figure], [compare("sent to readable row p99, ms", found, at_most=250)]


def _latency(rate: int, seconds: float) -> Figure:
    packets = int(100 * seconds)
    per_packet = rate // 100
    with child("store") as measured:
        path = measured.folder / "tables.db"
        _until(path.exists)
        sent: list[float] = []
        sending = threading.Thread(
            target=send_marks, args=(measured.ports[0], _DEVICES, packets, per_packet, sent)
        )
        sending.start()
        seen = _watch_latest(path, packets, sent)
        sending.join()
        outcome = measured.finish(packets * per_packet)
    return Figure(
        name=f"sent to readable at {rate} records/s",
        rate=outcome.processed / outcome.seconds,
        cpu_s_per_million=1e6 * outcome.cpu_s / outcome.processed,
        memory_mib=outcome.memory_mib,
        percentiles_ms=percentiles(seen),
    )


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + 10
    while not condition() and time.perf_counter() < deadline:
        time.sleep(0.01)


def _watch_latest(path: Path, packets: int, sent: list[float]) -> list[float]:
    """Poll the newest mark from outside, and take the time of each that has become visible."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    db.set_busy_timeout(1000)
    seen: list[float] = []
    while len(seen) < packets:
        row = db.execute("SELECT spindle_speed_rpm FROM latest_readings WHERE device_id = 'mark'").fetchone()
        now = time.perf_counter()
        newest = -1 if row is None else int(row[0])
        seen += [now - at for at in sent[len(seen) : newest + 1]]
        time.sleep(0.002)
    db.close()
    return seen


def read(runs: int, seconds: float, rows: int) -> tuple[list[Figure], list[Comparison]]:
    """One device's hour at 10 Hz out of many rows, while others are written at 20 000 rows/s."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=Path.cwd()) as folder:
        path = Path(folder) / "tables.db"
        filling = _fill(path, rows)
        figure = middle([asyncio.run(_read_hours(path, rows, seconds)) for _ in range(runs)])
    found = (figure.percentiles_ms or {})["p99"]
    return [filling, figure], [compare("an hour of one device p99, ms", found, at_most=500)]


def _fill(path: Path, rows: int) -> Figure:
    """Devices that send ten times a second, in the order in which they would have come."""
    db = open_for_writing(path)
    begun, cpu = time.perf_counter(), time.process_time()
    for first in range(0, rows, _BATCH_ROWS):
        count = min(_BATCH_ROWS, rows - first)
        _insert_batch(db, path, _columns(first, count, first, per_ms=1))
    elapsed, used = time.perf_counter() - begun, time.process_time() - cpu
    db.close()
    return Figure(name=f"filling {rows} rows", rate=rows / elapsed, cpu_s_per_million=1e6 * used / rows)


async def _read_hours(path: Path, rows: int, seconds: float) -> Figure:
    over = threading.Event()
    writing = threading.Thread(target=_keep_writing, args=(path, rows, over))
    writing.start()
    chance = random.Random(1)  # noqa: S311  # a repeatable choice
    store = SqliteReadingStore(path)
    taken: list[float] = []
    read = 0
    end = time.perf_counter() + 2 * seconds
    try:
        while time.perf_counter() < end:
            start = chance.randrange(max(1, rows - 3_600_000))
            device = f"E{chance.randrange(_DEVICES) + 1:04}"
            begun = time.perf_counter()
            read += len(await store.history(device, start, start + 3_600_000, limit=50_000))
            taken.append(time.perf_counter() - begun)
    finally:
        over.set()
        writing.join()
        await store.close()
    return Figure(
        name="an hour of one device while writing",
        rate=read / sum(taken),
        unit="rows/s",
        percentiles_ms=percentiles(taken),
        note=f"{len(taken)} reads",
    )


def _keep_writing(path: Path, first: int, over: threading.Event) -> None:
    db = open_for_writing(path)
    number = int(time.time() * 1000) + first  # never twice, also in the next run
    while not over.wait(0.1):
        _insert_batch(db, path, _columns(number, 2000, number, per_ms=20))
        number += 2000
    db.close()
