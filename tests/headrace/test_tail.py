"""`headrace tail` shows records of a real server as they arrive."""

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.harness import COMMAND, Server
from tests.faults.sender import deliver
from tests.faults.waiting import wait_until
from tests.headrace.conftest import Call


class Tail:
    """A running tail, and the lines that it has printed so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def interrupt(self) -> int:
        """Ctrl-C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(10)


@contextmanager
def tailing(server: Server, *options: str) -> Iterator[Tail]:
    """A tail of this server."""
    command: list[str | Path] = [COMMAND, "tail", "--config", server.config, "--url", server.url, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            yield Tail(process)
        finally:
            process.kill()  # the end of the context waits for its end


def arrive(server: Server, tail: Tail, data: bytes, word: str) -> None:
    """Send these records, again and again, until the tail has shown this word."""

    def shown() -> bool:
        deliver(server.ack_port, data)
        return any(word in line for line in list(tail.lines))

    wait_until(shown, f"the tail shows {word}", rest=0.1)


def test_records_appear_with_their_values(server: Server) -> None:
    """A heading, then a line for each record; Ctrl-C ends it with status 0 and no traceback."""
    server.start()
    with tailing(server) as tail:
        arrive(server, tail, b"E0001,35.25,8000,2.5,3.75,381#", "E0001")
        assert tail.lines[0].split()[:3] == ["received_at", "device_id", "spindle_temperature_c"]
        assert tail.lines[1].split()[1:] == ["E0001", "35.25", "8000", "2.5", "3.75", "381"]
        assert tail.interrupt() == 0
        assert tail.process.stderr is not None
        assert "Traceback" not in tail.process.stderr.read()


def test_one_device_alone(server: Server) -> None:
    """Of all that arrives only its records are shown."""
    server.start()
    with tailing(server, "--device", "B 2/x") as tail:
        arrive(server, tail, b"A1,1,2,3,4,5#B 2/x,1,2,3,4,5#A3,1,2,3,4,5#", "B 2/x")
        assert not [line for line in tail.lines[1:] if "B 2/x" not in line]
        assert tail.interrupt() == 0


def test_json_lines_for_programs(server: Server) -> None:
    """One object a line, with the names of the API, and seq as a string."""
    server.start()
    with tailing(server, "--json") as tail:
        arrive(server, tail, b"E0001,35.25,8000,2.5,3.75,381#", "E0001")
        shown = json.loads(tail.lines[0])
        assert shown["device_id"] == "E0001"
        assert shown["power_kw"] == 3.75
        assert isinstance(shown["seq"], str)
        assert tail.interrupt() == 0


def test_a_tail_ends_with_its_server(server: Server) -> None:
    """The server doesn't wait for it."""
    server.start()
    with tailing(server) as tail:
        arrive(server, tail, b"E0001,35.25,8000,2.5,3.75,381#", "E0001")
        assert server.stop() == 0
        assert tail.process.wait(10) in (0, 1)


@pytest.mark.usefixtures("server")
def test_without_a_server_it_says_so(call: Call) -> None:
    """Exit status 1 and the address that didn't answer."""
    done = call("tail", "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith("headrace: http://127.0.0.1:9: no server answers there")
    assert done.stderr.count("\n") == 1
