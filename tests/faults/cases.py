"""Rows in the table for the fault tests of other folders: one for each test, however many cases it has."""

from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from tests.faults.figures import Table

TABLE: Final = pytest.StashKey[Table]()
"""The table of this run, where one is made."""

_HERE: Final = Path(__file__).parent


def fault_of(name: str) -> str:
    """A test's name in words, and which of its cases it is."""
    words, _, case = name.removeprefix("test_").removesuffix("]").partition("[")
    return ", ".join([words.replace("_", " "), *(case.split("-") if case else [])])


def verdict_of(report: pytest.TestReport) -> str:
    """In few words; of a failure the first line that says what was wrong."""
    if report.outcome != "failed":
        return report.outcome
    wrong = (line.removeprefix("E").strip() for line in report.longreprtext.splitlines() if line[:2] == "E ")
    return f"failed: {next(wrong, '')[:200]}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a case; the tests of this folder count records, and make their rows themselves."""
    report = yield
    table = item.config.stash.get(TABLE, None)
    is_told = report.when == "call" or not report.passed
    if table is not None and is_told and isinstance(item, pytest.Function) and _HERE not in item.path.parents:
        table.case(fault_of(item.originalname), verdict_of(report), call.duration)
    return report
