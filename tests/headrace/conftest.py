"""What tests of the commands share: servers in processes of their own, and a way to call the others."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.harness import COMMAND, Server

Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that is not yet started, and that is gone after the test."""
    made = Server(tmp_path)
    yield made
    made.clean_up()


@pytest.fixture
def call(server: Server) -> Call:
    """Calls a command of `headrace` with the server's configuration."""

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [COMMAND, *words, "--config", server.config],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
