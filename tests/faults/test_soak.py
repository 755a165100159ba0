"""Load for hours: what a server holds stays as it is, and each record is there."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import pytest

from simulator import blast
from tests.faults import processes
from tests.faults.drift import BOUNDS, drift
from tests.faults.figures import Figures
from tests.faults.harness import Server
from tests.faults.oracle import check_books, reading
from tests.faults.samples import Samples

pytestmark = pytest.mark.fault

_CONNECTIONS: Final = 4


@pytest.mark.soak
def test_a_long_load_leaves_memory_descriptors_and_logs_flat(
    server: Server, figures: Figures, pytestconfig: pytest.Config, *, long_form: bool
) -> None:
    """50 000 records/s for two hours; for some seconds, and at a tenth of that, in the short form.

    Flat is judged in the long form only: a server that has just started still grows.
    """
    rate, seconds, every_s = 5_000, 3.0, 0.5
    if long_form:
        rate, seconds, every_s = 50_000, float(pytestconfig.getoption("--soak-seconds")), 5.0
    server.start()
    with ThreadPoolExecutor(1) as pool, ending(server):
        sending = pool.submit(
            blast.send,
            "127.0.0.1",
            server.ack_port,
            blast.prepare(100, 50_000),
            connections=_CONNECTIONS,
            duration_s=seconds,
            rate=rate,
            ack=True,
        )
        samples = Samples.until(sending.done, measures(server), every_s, keeper(pytestconfig))
    sent = sending.result()
    server.wait_drained(600)
    figures.notes.append(f"{sent.sent / sent.seconds:.0f} records/s for {sent.seconds:.0f} s")
    assert sent.sent == sent.acknowledged > 0
    _count(server, figures, sent)
    if long_form:
        _judge(samples, figures)


@contextmanager
def ending(server: Server) -> Iterator[None]:
    """If this is interrupted the server goes, and with it whoever sends."""
    try:
        yield
    except BaseException:
        server.clean_up()
        raise


def keeper(config: pytest.Config) -> Callable[[Samples], None]:
    """Writes the samples beside the table, where one is made."""
    folder: Path | None = config.getoption("--table")

    def keep(samples: Samples) -> None:
        if folder is not None:
            (folder / "soak.json").write_bytes(msgspec.json.encode(samples))

    return keep


def measures(server: Server) -> dict[str, Callable[[], float]]:
    """What is sampled, by its name in `BOUNDS`."""
    log = Path(f"{server.tables}-wal")
    return {
        "server memory": lambda: processes.resident_bytes(server.pid),
        "sink memory": lambda: processes.resident_bytes(server.sink_pid()),
        "server descriptors": lambda: processes.descriptors(server.pid),
        "sink descriptors": lambda: processes.descriptors(server.sink_pid()),
        "journal": lambda: server.metric("headrace_journal_bytes"),
        "log of the tables": lambda: log.stat().st_size if log.exists() else 0,
        "lag in blocks": lambda: server.ready().sinks[0].lag_blocks,
    }


def _count(server: Server, figures: Figures, sent: blast.BlastResult) -> None:
    """The records are alike, so they are counted, not compared."""
    with reading(server.tables) as tables:
        rows = tables.execute("SELECT count(*) FROM readings").get
    figures.rows[str(server.tables), "all"] = rows
    figures.judge(
        "all",
        sent=sent.sent,
        acknowledged=sent.acknowledged,
        missing=max(sent.acknowledged - rows, 0),
        excess=max(rows - sent.sent, 0),
    )
    assert rows == sent.sent
    check_books(server.tables)


def _judge(samples: Samples, figures: Figures) -> None:
    moved = {name: drift(samples.seconds, samples.values[name], bound) for name, bound in BOUNDS.items()}
    figures.notes += [f"{name} {one}" for name, one in moved.items()]
    assert all(one.flat for one in moved.values()), [name for name, one in moved.items() if not one.flat]
