"""What every command shares: its options, and how errors become an exit status."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import click

from headrace.errors import ConfigError, FailedError
from ingest.errors import IngestError
from orders.accounts.errors import AccountError, RuleError
from storage.errors import StorageError

P = ParamSpec("P")

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="Configuration file; without it config.toml, or the defaults where there is none.",
)

log_option = click.option(
    "--log-format",
    type=click.Choice(["auto", "json", "console"]),
    default="auto",
    show_default=True,
    help="How to log to standard error; auto is text on a terminal and JSON elsewhere.",
)


def reporting_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Turn what went wrong into one line and an exit status."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (ConfigError, IngestError, StorageError, RuleError) as error:
            click.echo(f"headrace: {error}", err=True)
            sys.exit(2)
        except (FailedError, AccountError) as error:
            click.echo(f"headrace: {error}", err=True)
            sys.exit(1)

    return run
