"""The benchmarks run, count at the far end, and compare with honest baselines. No figure is asserted."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.cassandra.growth import growth_plot
from benchmarks.command import bench
from benchmarks.plain import parse_plainly
from benchmarks.report import Figure, compare, compare_in_turns, middle, p99_of, percentiles
from benchmarks.running import blast
from parser.columns import parse_columns
from parser.settings import Rules
from simulator.blast import prepare


@pytest.mark.parametrize("name", ["parse", "durable", "latency"])
def test_a_benchmark_writes_its_table_its_figures_and_its_plot(name: str, tmp_path: Path) -> None:
    words = [name, "--runs", "1", "--seconds", "0.1", "--out", str(tmp_path)]
    result = CliRunner().invoke(bench, words, catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads((tmp_path / f"{name}.json").read_text())
    assert report["machine"]
    assert all(figure["rate"] > 0 for figure in report["figures"])
    assert (tmp_path / f"{name}.svg").read_text().startswith("<svg")


def test_orders_are_placed_by_a_real_gateway_with_a_real_supplier(tmp_path: Path) -> None:
    """Alone, beside telemetry, and far too many: nobody is left without an answer."""
    words = ["orders", "--runs", "1", "--seconds", "0.5", "--out", str(tmp_path)]
    result = CliRunner().invoke(bench, words, catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads((tmp_path / "orders.json").read_text())
    alone, beside, without, telemetry, sustained, placed, _ = report["figures"]
    assert all(figure["rate"] > 0 for figure in (alone, beside, without, telemetry, sustained, placed))
    assert all(figure["percentiles_ms"]["p99"] > 0 for figure in (alone, beside, sustained, placed))
    assert report["comparisons"][-1]["ratio"] == 0


def test_tls_is_measured_beside_none_with_the_same_sender(tmp_path: Path) -> None:
    """In bulk, a record a packet, and idle connections; each beside what it cost."""
    words = ["tls", "--runs", "1", "--seconds", "0.1", "--out", str(tmp_path)]
    result = CliRunner().invoke(bench, words, catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads((tmp_path / "tls.json").read_text())
    assert [figure["name"] for figure in report["figures"][:4]] == [
        "plain, in bulk",
        "TLS, in bulk",
        "plain, a record a packet",
        "TLS, a record a packet",
    ]
    assert all(figure["rate"] > 0 for figure in report["figures"])
    assert all("the sender busy" in figure["note"] for figure in report["figures"][:4])


@pytest.mark.timeout(600)
def test_strangers_do_all_they_can_and_a_machine_loses_nothing(tmp_path: Path) -> None:
    """On a real server, with TLS and without; nothing of it is in the log as a failure of ours."""
    words = ["hostile", "--runs", "1", "--seconds", "0.5", "--out", str(tmp_path)]
    result = CliRunner().invoke(bench, words, catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads((tmp_path / "hostile.json").read_text())
    assert all(figure["percentiles_ms"]["p99"] > 0 for figure in report["figures"])
    found = {comparison["what"]: comparison["ratio"] for comparison in report["comparisons"]}
    assert found["records sent and not acknowledged"] == 0
    assert found["kinds of attack that the server did not count"] == 0
    assert found["tracebacks in the servers' logs"] == 0


@pytest.mark.parametrize("kind", ["discard", "durable", "store"])
def test_a_rate_counts_what_came_out_at_the_far_end(kind: str) -> None:
    """Malformed and empty records take numbers; only rows count as stored."""
    prepared = prepare(10, 2_000)
    figure, sent = blast(kind, prepared, 10_000, ack=kind != "discard")
    assert sent.sent == 10_000
    assert figure.rate > 0
    assert figure.cpu_s_per_million is not None


def test_the_baseline_checks_what_the_vectorised_parser_checks() -> None:
    """It must not be faster by looking away."""
    payload = prepare(10, 5_000, malformed=0.2).payload
    rows, others = parse_plainly(payload)
    columns = parse_columns(payload, Rules(), {})
    assert len(rows) == len(columns.index)
    assert others == payload.count(b"#") - len(columns.index)
    assert [row[1] for row in rows] == columns.values[0].tolist()


def test_a_target_is_reached_or_not() -> None:
    assert compare("a", 2.0, at_least=3).reached is False
    assert compare("a", 2.0, at_most=3).reached is True
    assert compare("a", 2.0).reached is None


def test_what_takes_turns_is_held_against_the_baselines_before_and_after_it() -> None:
    """Both grow faster from turn to turn here, and by the same."""
    measured = [Figure(name="a", rate=rate) for rate in (9.0, 10.8, 99.0)]
    baselines = [Figure(name="b", rate=rate) for rate in (9.0, 11.0, 13.0, 15.0)]
    found = compare_in_turns("a / b", measured, baselines, at_least=1.0)
    assert found.runs == pytest.approx([0.9, 0.9, 99 / 14])
    assert found.ratio == pytest.approx(0.9)
    assert found.reached is False


def test_the_middle_run_carries_all_by_which_it_was_chosen() -> None:
    figures = [Figure(name="a", rate=1.0, percentiles_ms={"p99": p99}) for p99 in (3.0, 1.0, 2.0)]
    found = middle(figures, by=p99_of)
    assert p99_of(found) == 2.0
    assert found.runs == [3.0, 1.0, 2.0]


def test_percentiles_are_of_what_was_measured() -> None:
    found = percentiles([0.001 * number for number in range(1, 101)])
    assert found == {"p50": 51.0, "p90": 91.0, "p99": 100.0, "max": 100.0}
    assert percentiles([]) == {}


def test_growth_is_drawn_by_the_number_of_devices() -> None:
    """Rows, batches and processor time; nothing where it was not measured."""
    figures = [
        Figure(name=f"{devices:,} devices", rate=1e5, rows_a_request=400.0, cpu_s_per_million=1.5)
        for devices in (100, 10_000)
    ]
    others = [Figure(name=name, rate=1.0) for name in ("sockets to rows", "newest of 1,000 devices")]
    drawn = growth_plot([*others, *figures])
    assert "newest" not in drawn
    assert drawn.startswith("<svg")
    assert drawn.count("<rect") == 4 * 2
    assert "rows a request" in drawn
    assert growth_plot([Figure(name="sockets to rows", rate=1.0)]) == ""
