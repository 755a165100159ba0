"""The files under `deploy/`, and the tools that check them where they are installed."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

from headrace.cli import main
from tests.support.needing import need

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"


class Service(msgspec.Struct):
    """What the tests look at of a service in compose.yaml."""

    restart: str
    image: str = ""
    environment: dict[str, str] = {}
    ports: list[str] = []
    volumes: list[str] = []
    security_opt: list[str] = []
    cap_drop: list[str] = []
    stop_grace_period: str = ""


class Compose(msgspec.Struct):
    """compose.yaml."""

    services: dict[str, Service]
    volumes: dict[str, None]


def compose() -> Compose:
    """The compose file as it stands: nothing in it is replaced by the environment."""
    return msgspec.yaml.decode((DEPLOY / "compose.yaml").read_bytes(), type=Compose)


def serves(words: Sequence[str]) -> bool:
    """Whether these words after `headrace` start the server; wrong options raise click's error."""
    name, *options = words
    command = main.get_command(click.Context(main), name)
    assert command is not None, f"there is no command {name}"
    command.make_context(name, options)
    return name == "serve"


def passes(tool: str, *words: str | Path, install: str) -> None:
    """Require that a tool has nothing to say against a file; skip where it isn't installed, but in CI."""
    need(shutil.which(tool) is not None, f"{tool} is missing; try: {install}")
    done = subprocess.run([tool, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
