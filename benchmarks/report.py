"""What a benchmark found: a table on the terminal, JSON and a plot in files, and the machine it ran on."""

import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

import msgspec
from rich.console import Console
from rich.table import Table

STYLE = (
    "<style>text{fill:#222}rect{fill:#2a78b8}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}rect{fill:#5aa9e6}}</style>"
)


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured thing, the median of its runs."""

    name: str
    rate: float
    """What was processed at the far end, per second; or the value itself, where `unit` is no rate."""

    unit: str = "records/s"
    runs: list[float] = []
    """What each run gave of that by which the median was chosen: the rate, mostly."""

    cpu_s_per_million: float | None = None
    """Processor time of the measured process for a million records, its children included."""

    store_cpu_s_per_million: float | None = None
    """The same of the database's node, where it is a program of its own and ours to look at."""

    memory_mib: float | None = None
    """Peak resident size of the measured process."""

    percentiles_ms: dict[str, float] | None = None
    rows_a_request: float | None = None
    """How many went to the database together, where there are requests."""

    note: str = ""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two figures of one run, and what was to be reached."""

    what: str
    ratio: float
    runs: list[float] = []
    """What `ratio` is the median of, where it is one."""

    target: str = ""
    reached: bool | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A benchmark's whole result."""

    benchmark: str
    command: str
    machine: str
    date: str
    figures: list[Figure]
    comparisons: list[Comparison]


def rate_of(figure: Figure) -> float:
    """What most figures are about."""
    return figure.rate


def p99_of(figure: Figure) -> float:
    """What a figure about latencies is about, in milliseconds."""
    return (figure.percentiles_ms or {})["p99"]


def middle(figures: Sequence[Figure], by: Callable[[Figure], float] = rate_of) -> Figure:
    """The run with the median rate, or of what else it is about, carrying this of all runs."""
    runs = [by(figure) for figure in figures]
    wanted = median(runs)
    chosen = min(figures, key=lambda figure: abs(by(figure) - wanted))
    return msgspec.structs.replace(chosen, runs=runs)


def compare(
    what: str, ratio: float, at_least: float | None = None, at_most: float | None = None
) -> Comparison:
    """A ratio or a value, held against what was to be reached."""
    if at_least is not None:
        return Comparison(what=what, ratio=ratio, target=f"≥ {at_least:g}", reached=ratio >= at_least)
    if at_most is not None:
        return Comparison(what=what, ratio=ratio, target=f"≤ {at_most:g}", reached=ratio <= at_most)
    return Comparison(what=what, ratio=ratio)


def compare_in_turns(
    what: str, measured: Sequence[Figure], baselines: Sequence[Figure], at_least: float
) -> Comparison:
    """The median ratio of runs that took turns with their baselines, of which there is one more.

    Each run is held against the mean of the baselines just before and just after it, so that what drifts
    from minute to minute hits both sides alike.
    """
    ratios = [
        run.rate / mean((before.rate, after.rate))
        for run, (before, after) in zip(measured, pairwise(baselines), strict=True)
    ]
    return msgspec.structs.replace(compare(what, median(ratios), at_least=at_least), runs=ratios)


def make_report(benchmark: str, command: str, figures: list[Figure], comparisons: list[Comparison]) -> Report:
    """The result with machine and date."""
    return Report(
        benchmark=benchmark,
        command=command,
        machine=describe_machine(),
        date=datetime.now(UTC).date().isoformat(),
        figures=figures,
        comparisons=comparisons,
    )


def publish(report: Report, folder: Path) -> None:
    """Print the result, and write it as JSON and as a plot."""
    folder.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.format(msgspec.json.encode(report), indent=2)
    (folder / f"{report.benchmark}.json").write_bytes(encoded + b"\n")
    (folder / f"{report.benchmark}.svg").write_text(_plot(report), encoding="utf-8")
    _print(report)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """The usual percentiles in milliseconds."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    places = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    last = len(ordered) - 1
    return {
        name: round(1000 * ordered[min(last, int(share * len(ordered)))], 3) for name, share in places.items()
    }


def _units(figures: Sequence[Figure]) -> str:
    return ", ".join(sorted({figure.unit for figure in figures}))


def describe_machine() -> str:
    """Processors, kernel and Python, in one line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = f"{len(names)} x {names[0]}" if names else model
    return f"{model}, Linux {platform.release()}, Python {platform.python_version()}"


def _print(report: Report) -> None:
    console = Console()
    table = Table(title=f"{report.benchmark}: {report.command}", caption=report.machine)
    for column in ("figure", "median", "unit", "CPU s / million", "store's", "MiB", "ms", "runs"):
        table.add_column(column, overflow="fold")
    for figure in report.figures:
        found = figure.percentiles_ms or {}
        fat = "" if figure.rows_a_request is None else f"{figure.rows_a_request:.0f} rows a request"
        notes = ", ".join(note for note in (figure.note, fat) if note)
        table.add_row(
            figure.name + (f" ({notes})" if notes else ""),
            f"{figure.rate:,.0f}" if figure.rate >= 100 else f"{figure.rate:.2f}",
            figure.unit,
            _short(figure.cpu_s_per_million, 2),
            _short(figure.store_cpu_s_per_million, 1),
            _short(figure.memory_mib, 0),
            ", ".join(f"{name} {value:g}" for name, value in found.items()),
            ", ".join(f"{run:,.4g}" for run in figure.runs),
        )
    console.print(table)
    for comparison in report.comparisons:
        mark = {True: "reached", False: "NOT reached", None: ""}[comparison.reached]
        runs = ", ".join(f"{run:.3g}" for run in comparison.runs)
        console.print(f"  {comparison.what}: {comparison.ratio:.3g}  {comparison.target}  {mark}  {runs}")


def _short(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _plot(report: Report) -> str:
    """Horizontal bars of all figures that are rates; readable in dark and light."""
    bars = [figure for figure in report.figures if figure.unit.endswith("/s")]
    longest = max((figure.rate for figure in bars), default=1.0) or 1.0
    height = 46 + 34 * len(bars)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" font-family="sans-serif">',
        STYLE,
        f'<text x="8" y="22" font-size="15">{escape(report.command)}, {_units(bars)}</text>',
    ]
    for row, figure in enumerate(bars):
        y = 40 + 34 * row
        width = max(1.0, 380 * figure.rate / longest)
        parts += [
            f'<text x="8" y="{y + 16}" font-size="12">{escape(figure.name)}</text>',
            f'<rect x="220" y="{y}" width="{width:.1f}" height="22" rx="2"/>',
            f'<text x="{226 + width:.1f}" y="{y + 16}" font-size="12">{figure.rate:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
