"""The command that runs every fault at length: it ends by itself, and its table says what was counted."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec
import pytest

from tests.faults.cases import fault_of
from tests.faults.drift import BOUNDS, MIB, Bound, drift
from tests.faults.figures import INTERRUPTED, Figures, Row, Run, Table, Written, markdown
from tests.faults.waiting import wait_until

pytestmark = pytest.mark.fault

_ROOT: Final = Path(__file__).parents[1]
_QUICK: Final = "stopped_server_has_acknowledged"


def start(table: Path, *options: str) -> "subprocess.Popen[str]":
    """The command, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults", "--table", str(table), *options],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read(table: Path) -> list[Run]:
    """What it has written so far."""
    return msgspec.json.decode((table / "endurance.json").read_bytes(), type=Written).runs


def test_the_table_says_what_was_counted_also_when_it_is_interrupted(tmp_path: Path) -> None:
    """For people and for programs, also of the fault that was under way; how long it takes is said before."""
    process = start(tmp_path, "--tls", "--only", f"{_QUICK} or long_load", "--soak-seconds", "600")
    try:
        wait_until((tmp_path / "soak.json").exists, "the soak is under way", 60)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "long form of 2 tests, about 12 minutes in all" in said
    assert "Traceback" not in said
    (run,) = read(tmp_path)
    done, interrupted = run.rows
    assert (done.fault, done.verdict) == ("a stopped server has acknowledged all that it kept", "passed")
    assert done.stored == done.acknowledged > 0
    assert (done.lost, done.twice) == (0, 0)
    assert interrupted.verdict == INTERRUPTED
    assert f"`python -m tests.faults --tls --only '{_QUICK} or long_load' --soak-seconds=600`" in run.head
    assert (tmp_path / "endurance.md").read_text() == markdown([run])


def test_cases_of_one_test_are_one_row(tmp_path: Path) -> None:
    """It has failed if one of them has, and says how many there were."""
    table = Table(tmp_path, "head")
    for verdict in ("passed", "skipped", "passed"):
        table.case("damage", verdict, 1.0)
    table.case("other", "passed", 2.0)
    (run,) = read(tmp_path)
    assert [(row.fault, row.verdict, row.note) for row in run.rows] == [
        ("damage", "passed", "2 passed, 1 skipped"),
        ("other", "passed", ""),
    ]
    table.case("damage", "failed: lost", 0.5)
    table.case("damage", "passed", 0.5)
    (run,) = read(tmp_path)
    (row,) = [row for row in run.rows if row.fault == "damage"]
    assert (row.verdict, row.note) == ("failed: lost", "3 passed, 1 skipped, 1 failed")
    assert row.seconds == 4.0


def test_a_table_that_goes_on_has_the_newest_row_of_each_fault(tmp_path: Path) -> None:
    """Each with the run that made it; runs of which nothing is left are not named any more."""

    def told(head: str, *rows: tuple[str, str], goes_on: bool = True) -> dict[str, list[tuple[str, str]]]:
        table = Table(tmp_path, head, goes_on=goes_on)
        for fault, verdict in rows:
            table.add(Row(fault, verdict, 1, 1, 1, 0, 0, None, None, 1.0))
        return {run.head: [(row.fault, row.verdict) for row in run.rows] for run in read(tmp_path)}

    first = {"one": [("kill", "failed: lost"), ("cut", "passed")]}
    assert told("one", ("kill", "failed: lost"), ("cut", "passed")) == first
    second = {"one": [("cut", "passed")], "two": [("kill", "passed"), ("fill", INTERRUPTED)]}
    unclear = [("cut", INTERRUPTED), ("cut", "skipped"), ("fill", INTERRUPTED)]
    assert told("two", ("kill", "passed"), *unclear) == second
    shown = (tmp_path / "endurance.md").read_text()
    assert "1. one\n2. two\n\n| fault" in shown
    assert "| kill | 1 | 1 | 1 | 0 | 0 |  |  | passed | 2 |" in shown
    assert told("three", ("cut", "passed"), ("fill", "passed")) == {
        "two": [("kill", "passed")],
        "three": [("cut", "passed"), ("fill", "passed")],
    }
    assert told("all", ("cut", "passed"), goes_on=False) == {"all": [("cut", "passed")]}


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("test_a_kill", "a kill"),
        ("test_an_outage[one node-600 s]", "an outage, one node, 600 s"),
        ("test_it[a_column]", "it, a_column"),
    ],
)
def test_a_fault_is_named_in_words_with_its_case(name: str, fault: str) -> None:
    """As it stands in the table."""
    assert fault_of(name) == fault


def test_tests_of_other_rooms_are_in_the_table(tmp_path: Path) -> None:
    """Without TLS; with it they would be the same again."""
    for options, expected in (((), ["a damaged file made ahead is not written to"]), (("--tls",), [])):
        table = tmp_path / str(len(options))
        said, _ = start(table, "--short", "--only", "damaged_file_made_ahead", *options).communicate(
            timeout=120
        )
        found = [row.fault for row in read(table)[0].rows] if (table / "endurance.json").exists() else []
        assert found == expected, said


def test_what_is_lost_is_counted_by_number_or_by_the_books() -> None:
    """Whichever knows more."""
    figures = Figures()
    figures.judge("tables", "M", sent=10, acknowledged=8, missing=2, excess=1)
    assert figures.row("x", "passed", 1.0).lost == 2
    figures.deliver(100, 100)
    figures.accounted["tables"] = 105
    row = figures.row("x", "passed", 1.0)
    assert (row.sent, row.acknowledged, row.lost, row.twice) == (110, 108, 3, 1)


def test_machines_of_one_name_are_counted_in_each_plant() -> None:
    """By the tables that they feed; of the same ones the last time counts."""
    figures = Figures()
    for stored in (7, 9):
        for tables in ("one", "two"):
            figures.rows[tables, "M"] = stored
            figures.judge(tables, "M", sent=10, acknowledged=9, missing=9 - stored, excess=1)
    row = figures.row("x", "passed", 1.0)
    assert (row.sent, row.acknowledged, row.stored, row.lost, row.twice) == (20, 18, 18, 0, 2)
    assert row.verdict == "passed"


def test_rows_that_nobody_sent_fail_a_fault_that_passed() -> None:
    """One is enough; what has failed anyway keeps its own words."""
    figures = Figures()
    figures.deliver(10, 10)
    figures.rows["tables", "M"] = 10
    assert figures.row("x", "passed", 1.0).verdict == "passed"
    figures.rows["tables", "N"] = 1
    assert figures.row("x", "passed", 1.0).verdict == "failed: 11 rows of 10 records sent"
    assert figures.row("x", "failed: lost", 1.0).verdict == "failed: lost"


@pytest.mark.parametrize("judges_speed", [True, False])
def test_what_takes_too_long_fails_the_long_form_only(*, judges_speed: bool) -> None:
    """Both say how long it took, and how long it may."""
    figures = Figures(judges_speed=judges_speed)
    figures.within("ready again in", 4.96, 5.0)
    figures.within("rows again", 16.0, 15.0)
    assert figures.findings == (["rows again 16 s of 15 allowed"] if judges_speed else [])
    row = figures.row("x", "passed", 1.0)
    assert row.note == "ready again in 4.96 s of 5 allowed; rows again 16 s of 15 allowed"
    assert (row.verdict == "passed") is not judges_speed


@pytest.mark.parametrize(
    ("values", "flat"),
    [
        ([100.0] * 40, True),
        ([float(number) for number in range(40)], False),
        ([float(min(number, 20)) for number in range(40)], True),
        ([100.0 + 50 * (number % 4) for number in range(40)], True),
        ([100.0 - number for number in range(40)], True),
        ([100.0] * 39 + [9000.0], True),
    ],
    ids=["still", "grows", "grew at first", "up and down", "falls", "one outlier"],
)
def test_a_figure_is_flat_if_its_second_half_does_not_grow(values: list[float], *, flat: bool) -> None:
    """Judged by the middle of all slopes."""
    found = drift([float(number) for number in range(len(values))], values, Bound(0.01, 0.0))
    assert found.flat is flat


@pytest.mark.parametrize("rate", [0.3, 0.6, 0.82, 1.0, 1.5])
def test_a_journal_that_is_trimmed_by_segments_is_flat(rate: float) -> None:
    """At whatever pace, in MiB/s, it fills them in a run of four minutes."""
    times = [2.0 * number for number in range(120)]
    found = drift(times, [time * rate % 64 * MIB for time in times], BOUNDS["journal"])
    assert found.flat


@pytest.mark.parametrize(("hours", "flat"), [(1.0, True), (4.0, False)])
def test_what_grows_slowly_is_seen_in_a_run_of_hours(hours: float, *, flat: bool) -> None:
    """By 3 MiB an hour: half an hour can't tell, two hours can."""
    times = [hours * 36.0 * number for number in range(101)]
    found = drift(times, [time * 3 * MIB / 3600 for time in times], Bound(0.0, 8.0 * MIB, 2.0 * MIB))
    assert found.flat is flat
    assert ("(+3.0 MiB/h)" in str(found)) is not flat
