"""`python -m tests.fuzz parser --bytes 100000000`: fuzz until the bytes or the seconds are spent.

Exit status 0: nothing was found; 1: an input failed, and stands above the closing line as Python's bytes; 3:
the time was over before as many bytes were given as were asked for. The closing line says what ended the run.
"""

import sys
from pathlib import Path
from typing import Final

import click

from tests.fuzz.running import fuzz
from tests.fuzz.targets import TARGETS

_ENDLESS: Final = 10**12
_STATUS: Final = {"bytes": 0, "finding": 1, "time": 3}


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("target", type=click.Choice(list(TARGETS)))
@click.option("--bytes", "max_bytes", type=click.IntRange(1), help="Give so many; fewer are a failure.")
@click.option("--seconds", type=click.FloatRange(1), default=3600.0, help="Stop after these.")
@click.option(
    "--found",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep inputs that reach something new in this folder.",
)
def main(target: str, max_bytes: int | None, seconds: float, found: Path | None) -> None:
    """Fuzz the parser or the journal's recovery with made-up inputs, by time alone without --bytes."""
    run = fuzz(target, max_bytes=max_bytes or _ENDLESS, seconds=seconds, found=found)
    if run.outcome.finding is not None:
        click.echo(f"{run.outcome.what}\n{run.outcome.finding!r}")
    click.echo(run.line)
    is_enough = run.stopped_by == "time" and max_bytes is None
    sys.exit(0 if is_enough else _STATUS[run.stopped_by])


if __name__ == "__main__":
    main()
