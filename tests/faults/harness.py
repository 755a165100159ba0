"""A real server in a process of its own, on a temporary folder, that can be stopped and killed.

Everything goes through what an operator has: the command `headrace`, a configuration file, signals, the
addresses printed at start, and `/readyz`. A wait is always for something, with a deadline.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.request import urlopen

import msgspec

from tests.faults import figures, processes, wire
from tests.faults.waiting import wait_until

COMMAND: Final = Path(sys.executable).with_name("headrace")
MIB: Final = 1 << 20

_RECEIVED: Final = "headrace_received_records_total"
_STORED: Final = 'headrace_records_stored_total{sink="tables"}'

_OFFICE: Final = ("accounts", "orders", "log", "mes")
"""Sections with a file of their own."""

Settings = Mapping[str, Mapping[str, object]]
"""Sections of the configuration, each with its keys; dots in a section's name are TOML's."""


class Sink(msgspec.Struct):
    """What `/readyz` says of a sink."""

    state: str
    lag_blocks: int
    reason: str | None


class Ready(msgspec.Struct):
    """What `/readyz` says."""

    ready: bool
    reasons: list[str]
    sinks: list[Sink]


class Server:
    """A server that can be started again and again on the same data."""

    def __init__(self, folder: Path, settings: Settings | None = None, *, name: str = "server") -> None:
        """`folder` holds everything; `name` tells the files of several servers there apart."""
        self.folder = folder
        self.journal = folder / "journal"
        self.tables = folder / "tables.db"
        self.config = folder / f"{name}.toml"
        self.log = folder / f"{name}.log"
        self.port = self.ack_port = 0
        self.url = ""
        self.before: tuple[str, ...] = ()
        """Words before the command, of a program that becomes it: another user's, another umask's."""

        self._process: subprocess.Popen[str] | None = None
        self._starts = 0
        self._begun = 0.0
        self.configure(settings or {})

    def configure(self, settings: Settings) -> None:
        """Write the configuration for the next start: these settings over those that all tests share."""
        sections: dict[str, dict[str, object]] = {
            "ingest": {"port": 0, "ack_port": 0, **wire.current().settings},
            "journal": {"path": str(self.folder / "journal")},
            "storage.sqlite": {"path": str(self.folder / "tables.db")},
            "http": {"port": 0, "login": False},
            **{section: {"path": str(self.folder / f"{section}.db")} for section in _OFFICE},
        }
        for section, keys in settings.items():
            sections.setdefault(section, {}).update(keys)
        self.config.write_text("".join(_section(name, keys) for name, keys in sections.items()))
        self.tables = Path(str(sections["storage.sqlite"]["path"]))
        self.journal = Path(str(sections["journal"]["path"]))

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self, *options: str, seconds: float = 20.0) -> float:
        """Start, and wait until it takes data; how long that took, in seconds."""
        self.launch(*options)
        return self.wait_started(seconds)

    def launch(self, *options: str) -> None:
        """Start, and wait for nothing."""
        self._begun = time.monotonic()
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [*self.before, COMMAND, "serve", "--config", self.config, "--log-format", "json", *options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def wait_started(self, seconds: float = 20.0) -> float:
        """Wait until it takes data; how long that took since it was launched, in seconds."""
        self.port = self._address("machines")
        self.ack_port = self._address("acknowledged")
        self.url = f"http://127.0.0.1:{self._address('pages')}"
        wait_until(lambda: self.ready().ready, "the server takes data", seconds)
        took = time.monotonic() - self._begun
        self._starts += 1
        if self._starts > 1:
            figures.current().started(took)
        return took

    def refused(self, *options: str) -> tuple[int, str]:
        """Start where it must not start; its exit status and what it says."""
        done = subprocess.run(
            [COMMAND, "serve", "--config", self.config, "--log-format", "json", *options],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.returncode, done.stderr

    def kill(self) -> list[int]:
        """SIGKILL: no step of the server's own comes after it; the processes that it leaves."""
        left = processes.children(self.pid)
        self._end(signal.SIGKILL)
        return left

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM; its exit status."""
        return self._end(signal.SIGTERM, seconds)

    def _end(self, number: signal.Signals, seconds: float = 30.0) -> int:
        process = self._process
        assert process is not None
        process.send_signal(number)
        status = process.wait(seconds)
        if process.stdout is not None:
            process.stdout.close()
        self._process = None
        return status

    def clean_up(self) -> None:
        """Leave nothing running, whatever the test has come to."""
        if self._process is not None:
            for left in self.kill():
                processes.kill(left)

    def reload(self) -> None:
        """SIGHUP: read the configuration anew; the log says what came of it."""
        processes.kill(self.pid, signal.SIGHUP)

    def ready(self) -> Ready:
        """What `/readyz` says."""
        try:
            with urlopen(f"{self.url}/readyz", timeout=10) as answer:  # noqa: S310  # our own address
                return msgspec.json.decode(answer.read(), type=Ready)
        except HTTPError as error:  # 503 says what is wrong in the same form
            with error:
                return msgspec.json.decode(error.read(), type=Ready)

    def metric(self, name: str) -> float:
        """A figure of `/metrics`, by its name with its labels; 0 while there is none yet."""
        with urlopen(f"{self.url}/metrics", timeout=10) as answer:  # noqa: S310  # our own address
            lines: list[str] = answer.read().decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)

    def total(self, name: str) -> float:
        """A figure of `/metrics`, by its name alone: the sum over all its labels."""
        with urlopen(f"{self.url}/metrics", timeout=10) as answer:  # noqa: S310  # our own address
            lines: list[str] = answer.read().decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))
        )

    def wait_drained(self, seconds: float = 60.0) -> None:
        """Wait until everything that is durable is in the tables."""
        begun = time.monotonic()
        wait_until(lambda: all(_idle(sink) for sink in self.ready().sinks), "the tables have all", seconds)
        figures.current().drained(time.monotonic() - begun)

    def wait_caught_up(self, limit_s: float, seconds: float = 900.0) -> float:
        """Wait until the tables have what was received until now; how many records they were behind.

        It may take `limit_s`.
        """
        begun, received = time.monotonic(), self.metric(_RECEIVED)
        behind = received - self.metric(_STORED)
        wait_until(lambda: self.metric(_STORED) >= received, "the tables have what waited", seconds)
        took = time.monotonic() - begun
        figures.current().drained(took)
        figures.current().within(f"{behind:.0f} records behind, made up for in", took, limit_s)
        return behind

    def sink_pid(self) -> int:
        """The process of the sink; it is waited for."""
        wait_until(lambda: bool(self._sinks()), "the sink is there")
        return self._sinks()[0]

    def _sinks(self) -> list[int]:
        return [pid for pid in processes.children(self.pid) if "ingest.sink" in processes.command_line(pid)]

    def said(self) -> list[dict[str, object]]:
        """The log's events, of all starts; a line that is none fails the test."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def said_event(self, event: str) -> bool:
        """Whether the log has this event."""
        return self.times_said(event) > 0

    def times_said(self, event: str) -> int:
        """How often the log has this event."""
        return sum(line["event"] == event for line in self.said())

    def _address(self, name: str) -> int:
        """The port that the server prints for this."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line.startswith(f"{name}: "), f"{line!r}\n{self.log.read_text()[-2000:]}"
        return int(line.rpartition(":")[2])


def _idle(sink: Sink) -> bool:
    return sink.state == "running" and sink.lag_blocks == 0


def _section(name: str, keys: Mapping[str, object]) -> str:
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    return f"[{name}]\n{lines}\n"
