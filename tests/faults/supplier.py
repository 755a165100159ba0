"""The supplier's MES in a process of its own, that can be stopped and killed."""

import json
import os
import signal
import subprocess
from pathlib import Path
from urllib.request import Request, urlopen

import msgspec

from headrace.mes import TOKEN
from tests.faults.harness import COMMAND

SECRET = "0123456789abcdef"  # noqa: S105  # it opens nothing else


class Mes:
    """A service that can be started again and again on the same file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "mes.log"
        self.path = folder / "mes.db"
        self.url = ""
        self.before: tuple[str, ...] = ()
        """Words before the command, of a program that becomes it."""

        self.process: subprocess.Popen[str] | None = None
        self._environment = {**os.environ, TOKEN: SECRET}

    def configure(self, **keys: object) -> None:
        """For the next start; on a free port and with the file in the folder, if it is not said."""
        all_keys = {"port": 0, "path": str(self.path), **keys}
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in all_keys.items())
        (self.folder / "mes.toml").write_text(f"[mes]\n{lines}")

    def start(self) -> None:
        """Until it has printed its address."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*self.before, *self._words()],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("mes: http://127.0.0.1:"), self.log.read_text()
        self.url = line.removeprefix("mes: ").strip()

    @property
    def port(self) -> int:
        """Where it listens since its last start."""
        return int(self.url.rpartition(":")[2])

    def end(self, number: signal.Signals) -> int:
        """A signal; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return status

    def clean_up(self) -> None:
        """Leave nothing running."""
        if self.process is not None:
            self.end(signal.SIGKILL)

    def refused(self, token: str | None = SECRET) -> str:
        """Start where it must not start; the one line that it says."""
        environment = {name: value for name, value in os.environ.items() if name != TOKEN}
        if token is not None:
            environment[TOKEN] = token
        done = subprocess.run(
            self._words(), env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("headrace: ")
        assert done.stderr.count("\n") == 1
        return done.stderr

    def ask(self, path: str, body: object = None, **headers: str) -> dict[str, object]:
        """A GET, or a POST where there is a body."""
        data = None if body is None else msgspec.json.encode(body)
        request = Request(f"{self.url}{path}", data, {"Authorization": f"Bearer {SECRET}", **headers})  # noqa: S310  # our own address
        with urlopen(request, timeout=10) as answer:  # noqa: S310  # our own address
            return msgspec.json.decode(answer.read(), type=dict[str, object])

    def _words(self) -> list[str | Path]:
        return [COMMAND, "mes", "--config", self.folder / "mes.toml", "--log-format", "json"]
