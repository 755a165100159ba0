"""Running `headrace serve` and other commands as they are, for benchmarks that measure the whole server."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.request import urlopen

COMMAND: Final = Path(sys.executable).with_name("headrace")

_PAGE_S: Final = 60.0
_END_S: Final = 30.0

Sections = Mapping[str, Mapping[str, object]]
"""Of a configuration; dots in a section's name are TOML's."""


def write_config(path: Path, more: Sections) -> None:
    """A configuration on free ports, with all that is written in the file's folder; `more` goes before."""
    folder = path.parent
    sections: dict[str, dict[str, object]] = {
        "ingest": {"port": 0},
        "journal": {"path": f"{folder}/journal"},
        "storage.sqlite": {"path": f"{folder}/tables.db"},
        "http": {"port": 0},
        "accounts": {"path": f"{folder}/accounts.db"},
        "orders": {"path": f"{folder}/orders.db"},
        "log": {"path": f"{folder}/log.db"},
        "mes": {"port": 0, "path": f"{folder}/mes.db"},
    }
    for section, keys in more.items():
        sections.setdefault(section, {}).update(keys)
    lines = [
        line
        for section, keys in sections.items()
        for line in (f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in keys.items()))
    ]
    path.write_text("\n".join([*lines, ""]))


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)


@contextmanager
def running(
    command: str, config: Path, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """One of our commands for as long as the context lasts; its log lies beside the configuration."""
    with log_of(command, config).open("w") as log:
        process = subprocess.Popen(
            [COMMAND, command, "--config", config],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def log_of(command: str, config: Path) -> Path:
    """Where a command that is run writes its log."""
    return config.with_name(f"{command}.log")


def next_line(process: "subprocess.Popen[str]") -> str:
    """What it says next.

    Raises:
        RuntimeError: it has ended.
    """
    assert process.stdout is not None  # noqa: S101  # it is a pipe
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a process ended before it was ready; its log says why")
    return line.strip()


def next_address(process: "subprocess.Popen[str]", name: str) -> int:
    """The port behind this name, among the lines that the server says at its start."""
    line = next_line(process)
    while not line.startswith(f"{name}: "):
        line = next_line(process)
    return int(line.rpartition(":")[2])


def page(port: int, name: str) -> bytes:
    """One of the server's pages."""
    with urlopen(f"http://127.0.0.1:{port}/{name}", timeout=_PAGE_S) as answer:
        return bytes(answer.read())


def metrics(port: int) -> dict[str, float]:
    """What the server counts: by each figure's name with its labels, as it is written."""
    lines = page(port, "metrics").decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}
