"""`python -m tests.faults`: every fault in its long form, and one table of what was sent, stored and lost.

It is pytest on this folder: a scenario is a fault test, its size is short in the suite and long here. Without
TLS those of other rooms come too: disks, damaged files, clocks, pages that nobody reads. It stops by itself,
says at the start how long that takes, and whatever ends it leaves the table so far. With `--only` a table
that is there goes on, so that hours can be run in parts. Exit status: pytest's.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Final

import click
import pytest

_BESIDE: Final = ("ingest", "storage", "web")
_DAMAGES: Final = "500"
"""Places where each kind of damage is tried."""

_SOAK_S: Final = 7200.0

_OF_THE_ORACLE: Final = "test_oracle.py"
"""Breaks tables on purpose to see whether the oracle notices."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--only", default="", help="Only tests with this in their names, as pytest's -k takes it.")
@click.option("--soak-seconds", type=click.FloatRange(1), default=_SOAK_S, help="How long the soak lasts.")
@click.option("--short", is_flag=True, help="The sizes of the suite instead of the long ones.")
@click.option("--tls", is_flag=True, help="With TLS and certificates of both sides.")
@click.option(
    "--table",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where endurance.md and endurance.json go; data/endurance or data/endurance-tls without it.",
)
def main(*, only: str, soak_seconds: float, short: bool, tls: bool, table: Path | None) -> None:
    """Break everything at length, and count what is left."""
    here = Path(__file__).parent
    table = table or Path("data", "endurance-tls" if tls else "endurance")
    made_by = ["python", "-m", "tests.faults"]
    made_by += ["--tls"] if tls else []
    made_by += ["--short"] if short else []
    made_by += ["--only", only] if only else []
    made_by += [f"--soak-seconds={soak_seconds:g}"] if soak_seconds != _SOAK_S else []
    folders = [here] if tls else [here, *(here.parent / name for name in _BESIDE)]
    options = [
        *map(str, folders),
        "-m",
        "fault",
        f"--ignore={here / _OF_THE_ORACLE}",
        f"--table={table}",
        f"--made-by={shlex.join(made_by)}",
    ]
    options += ["-k", only] if only else []
    options += ["--tls"] if tls else []
    if not short:
        options += ["--long", f"--soak-seconds={soak_seconds}"]
        os.environ.setdefault("HEADRACE_DAMAGES", _DAMAGES)
    sys.exit(pytest.main(options))


if __name__ == "__main__":
    main()
