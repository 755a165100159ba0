"""The part `growth`: as many records from more devices, so that each has fewer rows in a batch.

Once as fast as they are taken, and once at one steady rate, where the batches are those of a plant.
"""

from collections.abc import Sequence
from html import escape
from typing import Final

from benchmarks.cassandra.bench import Bench, Found
from benchmarks.cassandra.sockets import ceiling, measure_whole
from benchmarks.report import STYLE, Figure, compare, middle

_MANY: Final = (100, 300, 1_000, 3_000, 10_000)
_STEADY: Final = 0.25
"""Of the ceiling."""

_SHARE_OF_STEADY: Final = 2
"""At one rate they get this part of the rows: a run takes twice as long as a flood then."""

_PANELS: Final = (
    ("rows/s", "rate"),
    ("rows a request", "rows_a_request"),
    ("µs a row, server and sink", "cpu_s_per_million"),
    ("µs a row, the node", "store_cpu_s_per_million"),
)
_AT_ONE_RATE: Final = " at one rate"
_LABELS_X: Final = 200
_BAR: Final = 380


def growth(bench: Bench) -> Found:
    """Rows, batches and processor time by the number of devices."""
    flooded = [middle([_flooded(bench, devices) for _ in range(bench.runs)]) for devices in _MANY]
    rate = _STEADY * ceiling(bench)
    steady = [middle([_steady(bench, devices, rate) for _ in range(bench.runs)]) for devices in _MANY]
    few, many = flooded[0], flooded[-1]
    return flooded + steady, [
        compare(f"{many.name} / {few.name}", many.rate / few.rate, at_least=0.4),
        compare(
            "CPU of server and sink at a quarter of the ceiling, 10,000 / 100 devices", _cpu_ratio(steady)
        ),
    ]


def _cpu_ratio(steady: Sequence[Figure]) -> float:
    return (steady[-1].cpu_s_per_million or 0.0) / (steady[0].cpu_s_per_million or 1.0)


def _flooded(bench: Bench, devices: int) -> Figure:
    return measure_whole(bench, devices, _name(devices))


def _steady(bench: Bench, devices: int, rate: float) -> Figure:
    rows = bench.rows // _SHARE_OF_STEADY
    return measure_whole(bench, devices, _name(devices) + _AT_ONE_RATE, rows=rows, rate=rate)


def _name(devices: int) -> str:
    return f"{devices:,} devices"


def growth_plot(figures: Sequence[Figure]) -> str:
    """Four panels of bars: what changes with the number of devices. Empty where that was not measured."""
    own = {_name(devices) for devices in _MANY}
    shown = [figure for figure in figures if figure.name.removesuffix(_AT_ONE_RATE) in own]
    if not shown:
        return ""
    height = 24 + len(_PANELS) * (34 + 22 * len(shown))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" font-family="sans-serif">',
        STYLE,
    ]
    top = 8
    for title, field in _PANELS:
        parts += _panel(title, [(figure.name, getattr(figure, field) or 0.0) for figure in shown], top)
        top += 34 + 22 * len(shown)
    return "\n".join([*parts, "</svg>", ""])


def _panel(title: str, bars: Sequence[tuple[str, float]], top: int) -> list[str]:
    longest = max(value for _, value in bars) or 1.0
    parts = [f'<text x="8" y="{top + 18}" font-size="14">{escape(title)}</text>']
    for row, (name, value) in enumerate(bars):
        y, width = top + 28 + 22 * row, max(1.0, _BAR * value / longest)
        number = f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
        parts += [
            f'<text x="8" y="{y + 12}" font-size="11">{escape(name)}</text>',
            f'<rect x="{_LABELS_X}" y="{y}" width="{width:.1f}" height="16" rx="2"/>',
            f'<text x="{_LABELS_X + 6 + width:.1f}" y="{y + 12}" font-size="11">{number}</text>',
        ]
    return parts
