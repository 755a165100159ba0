"""`headrace bench`: one command a benchmark; each measures its baselines in the same run."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from benchmarks import encryption, hostile, ordering, parsing, storing, streaming
from benchmarks.report import Comparison, Figure, make_report, publish

_RESULTS: Final = Path("benchmarks/results/local")

Benchmark = Callable[[int, float], tuple[list[Figure], list[Comparison]]]

_BENCHMARKS: Final[dict[str, tuple[Benchmark, str]]] = {
    "parse": (parsing.run, "Bytes to columns, against plain Python; with malformed records."),
    "ingest": (streaming.ingest, "Sockets to columns, against asyncio alone and a byte counter."),
    "durable": (streaming.durable, "Sockets to the journal, acknowledged, against raw commits."),
    "store": (storing.store, "Sockets to SQLite rows, against inserting ready rows."),
    "connections": (streaming.connections, "10 000 connections: what an idle one costs."),
    "latency": (storing.latency, "Sent to readable row at 20 000 records/s."),
    "orders": (ordering.orders, "Orders to the supplier, alone, beside telemetry, and far too many."),
    "tls": (encryption.tls, "TLS against none: rates of 4 connections, and 10 000 idle ones."),
    "hostile": (hostile.hostile, "A machine alone, and beside 200 strangers who do all they can."),
}

_runs = click.option(
    "--runs", type=click.IntRange(1, 20), default=3, show_default=True, help="Medians of so many."
)
_seconds = click.option(
    "--seconds", type=click.FloatRange(0.1, 600), default=3.0, show_default=True, help="About, for each run."
)
_out = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=_RESULTS,
    show_default=True,
    help="Where JSON and plot are written.",
)


@click.group()
def bench() -> None:
    """Measure on this machine: rates at the far end, with baselines from the same run."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends what was begun


def _add(name: str, benchmark: Benchmark, text: str) -> None:
    @bench.command(name, help=text)
    @_runs
    @_seconds
    @_out
    def command(runs: int, seconds: float, out: Path) -> None:
        _measure(name, out, lambda: benchmark(runs, seconds))


for _name, (_benchmark, _text) in _BENCHMARKS.items():
    _add(_name, _benchmark, _text)


@bench.command("read")
@_runs
@_seconds
@_out
@click.option("--rows", type=click.IntRange(100_000, 200_000_000), default=50_000_000, show_default=True)
def read(runs: int, seconds: float, out: Path, rows: int) -> None:
    """One device's hour out of many rows while writing (50 million take minutes and 5 GB)."""
    _measure("read", out, lambda: storing.read(runs, seconds, rows))


PARTS: Final = ("writers", "shape", "sockets", "latency", "growth", "files", "read", "backlog")


@bench.command("cassandra")
@_runs
@_out
@click.option(
    "--rows",
    type=click.IntRange(1_000, 100_000_000),
    default=4_000_000,
    show_default=True,
    help="In each run; a slow writer gets fewer.",
)
@click.option(
    "--backlog",
    type=click.IntRange(1_000, 100_000_000),
    default=6_000_000,
    show_default=True,
    help="Records that wait when the node goes on; ten minutes of what comes then.",
)
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="This part; several times for several.")
def cassandra(runs: int, out: Path, rows: int, backlog: int, only: tuple[str, ...]) -> None:
    """Sockets to Cassandra rows and back, against other writers and readers; starts a node of its own.

    All parts take an hour and a half. With HEADRACE_CASSANDRA_CONTACT_POINTS set (host or host:port,
    comma separated) that cluster is measured instead.
    """
    from benchmarks.cassandra.growth import growth_plot  # noqa: PLC0415  # who measures something else
    from benchmarks.cassandra.run import run  # noqa: PLC0415  # needs no driver

    figures = _measure("cassandra", out, lambda: run(runs, rows, backlog, only))
    if plot := growth_plot(figures):
        (out / "cassandra-growth.svg").write_text(plot, encoding="utf-8")


def _measure(name: str, out: Path, run: Callable[[], tuple[list[Figure], list[Comparison]]]) -> list[Figure]:
    figures, comparisons = run()
    publish(make_report(name, _command(name, click.get_current_context().params), figures, comparisons), out)
    return figures


def _command(name: str, params: dict[str, object]) -> str:
    """What to type to measure the same again; where it is written doesn't matter."""
    words = [
        f"--{key} {value}"
        for key, given in params.items()
        if key != "out"
        for value in (given if isinstance(given, tuple) else (given,))
    ]
    return " ".join(["headrace", "bench", name, *words])
