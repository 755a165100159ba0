"""A load that lasts, what a server holds meanwhile, and whether that stays as it is."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final, NamedTuple

from simulator import blast
from tests.faults import processes, wire
from tests.faults.drift import BOUNDS, drift
from tests.faults.figures import Figures
from tests.faults.harness import Server
from tests.faults.oracle import check_books, reading
from tests.faults.samples import Samples
from tests.faults.visitors import Visitors

_CONNECTIONS: Final = 4


class Load(NamedTuple):
    """What machines are to send."""

    rate: float
    """Records per second, all together."""

    seconds: float
    every_s: float
    """How often the server is looked at."""

    machines: int = 100


def carry(
    server: Server,
    load: Load,
    figures: Figures,
    keep: Callable[[Samples], None] = lambda _: None,
    visitors: Visitors | None = None,
) -> Samples:
    """Send it, each record acknowledged, wait until all is stored, and count it; what was seen meanwhile.

    `keep` gets what was seen so far, each time; `visitors` come beside it.
    """
    before = _rows(server)
    with ThreadPoolExecutor(1) as pool, ending(server), visitors or nullcontext():
        sending = pool.submit(
            blast.send,
            "127.0.0.1",
            server.ack_port,
            blast.prepare(load.machines, 50_000),
            connections=_CONNECTIONS,
            duration_s=load.seconds,
            rate=load.rate,
            ack=True,
            tls=wire.current().context,
        )
        samples = Samples.until(sending.done, measures(server), load.every_s, keep)
    sent = sending.result()
    server.wait_drained(600)
    figures.notes.append(f"{sent.sent / sent.seconds:.0f} records/s for {sent.seconds:.0f} s")
    assert sent.sent == sent.acknowledged > 0
    _count(server, figures, sent, before + (visitors.check() if visitors else 0))
    return samples


@contextmanager
def ending(server: Server) -> Iterator[None]:
    """If this is interrupted the server goes, and with it whoever sends."""
    try:
        yield
    except BaseException:
        server.clean_up()
        raise


def measures(server: Server) -> dict[str, Callable[[], float]]:
    """What is sampled, by its name in `BOUNDS`."""
    log = Path(f"{server.tables}-wal")
    return {
        "server memory": lambda: processes.resident_bytes(server.pid),
        "sink memory": lambda: processes.resident_bytes(server.sink_pid()),
        "server descriptors": lambda: processes.descriptors(server.pid),
        "sink descriptors": lambda: processes.descriptors(server.sink_pid()),
        "not yet durable": lambda: server.metric("headrace_journal_queued_bytes"),
        "journal": lambda: server.metric("headrace_journal_bytes"),
        "log of the tables": lambda: log.stat().st_size if log.exists() else 0,
        "lag in blocks": lambda: server.ready().sinks[0].lag_blocks,
    }


def judge(samples: Samples, figures: Figures) -> None:
    """In its second half no figure grew beyond its bound."""
    moved = {name: drift(samples.seconds, samples.values[name], bound) for name, bound in BOUNDS.items()}
    figures.notes += [f"{name} {one}" for name, one in moved.items()]
    assert all(one.flat for one in moved.values()), [name for name, one in moved.items() if not one.flat]


def _rows(server: Server) -> int:
    with reading(server.tables) as tables:
        return int(tables.execute("SELECT count(*) FROM readings").get)


def _count(server: Server, figures: Figures, sent: blast.BlastResult, others: int) -> None:
    """The records are alike, so they are counted, not compared; there are rows of others."""
    rows = check_books(server.tables) - others
    figures.rows[str(server.tables), "all"] = rows
    figures.judge(
        str(server.tables),
        "all",
        sent=sent.sent,
        acknowledged=sent.acknowledged,
        missing=max(sent.acknowledged - rows, 0),
        excess=max(rows - sent.sent, 0),
    )
    assert rows == sent.sent
