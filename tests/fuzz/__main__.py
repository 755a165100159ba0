"""`python -m tests.fuzz parser --bytes 100000000`: fuzz until the bytes or the seconds are spent.

Exit status 0: nothing was found; 1: an input failed, and stands above the closing line as Python's bytes.
"""

import sys
from pathlib import Path

import click

from tests.fuzz.running import fuzz
from tests.fuzz.targets import TARGETS


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("target", type=click.Choice(list(TARGETS)))
@click.option("--bytes", "max_bytes", type=click.IntRange(1), default=10**12, help="Stop after these.")
@click.option("--seconds", type=click.FloatRange(1), default=3600.0, help="Stop after these.")
@click.option(
    "--found",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep inputs that reach something new in this folder.",
)
def main(target: str, max_bytes: int, seconds: float, found: Path | None) -> None:
    """Fuzz the parser or the journal's recovery with made-up inputs."""
    run = fuzz(target, max_bytes=max_bytes, seconds=seconds, found=found)
    if run.outcome.finding is not None:
        click.echo(f"{run.outcome.what}\n{run.outcome.finding!r}")
    click.echo(run.line)
    sys.exit(int(run.outcome.finding is not None))


if __name__ == "__main__":
    main()
