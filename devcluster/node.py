"""One node: its folder, its process, and what one does to it.

Whether it runs is read from the file `process` in its folder, so that any program that knows the folder can
stop it.
"""

import re
import signal
import subprocess
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from devcluster import jars, ports, tools
from devcluster.errors import NodetoolError, NotRunningError, PauseError, PortError, StartError
from devcluster.hello import answers
from devcluster.processes import Process, spawn
from devcluster.settings import LOGBACK, java_command, nodetool_command, wants_tls, yaml

START_S: Final = 300.0
STOP_S: Final = 60.0
_PAUSED_S: Final = 10.0
_NODETOOL_S: Final = 120.0
_LOOK_S: Final = 0.1
_TELLING = re.compile(r"ERROR|FATAL|Caused by: |Error: |[\w.$]+(Exception|Error)\b")
"""How lines begin that say why a node ended."""


class Node:
    """A node of a cluster; made by `Cluster`."""

    def __init__(
        self,
        folder: Path,
        address: str,
        port: int,
        settings: Mapping[str, object],
        *,
        heap_mib: int,
        short_lived: bool,
    ) -> None:
        self.folder = folder
        self.address = address
        self.port = port
        self.settings = settings
        self.heap_mib = heap_mib
        self.short_lived = short_lived
        self.log = folder / "cassandra.log"
        self._process_file = folder / "process"
        self._jmx_file = folder / "jmx_port"

    @property
    def running(self) -> bool:
        """Whether its process is there, also if it is paused or doesn't answer yet."""
        return self._process() is not None

    @property
    def pid(self) -> int:
        """The id of its process; raises NotRunningError."""
        return self._running().pid

    def start(self) -> None:
        """Start it, with the data that is in its folder, and don't wait; nothing if it runs."""
        if self.running:
            return
        java, libraries = tools.require()
        self._check_ports()
        self._write_files()
        jmx_port = ports.take_free(["127.0.0.1"])
        self._jmx_file.write_text(f"{jmx_port}\n")
        command = java_command(
            java,
            libraries,
            jars.agent(libraries),
            self.folder,
            heap_mib=self.heap_mib,
            short_lived=self.short_lived,
            jmx_port=jmx_port,
        )
        process = spawn(command, self.log)
        self._process_file.write_text(f"{process.pid} {process.beginning}\n")

    def wait_up(self, seconds: float = START_S) -> None:
        """Wait until it answers; StartError if it ends or takes too long, with what its log says."""
        deadline = time.monotonic() + seconds
        while not self._is_up():
            self._check_start(deadline, f"did not answer within {seconds:.0f} s")
            time.sleep(_LOOK_S)

    def wait_sees(self, addresses: Collection[str], seconds: float = START_S) -> None:
        """Wait until it believes that these nodes are up, as it must before it asks them; StartError."""
        deadline = time.monotonic() + seconds
        while not self.sees() >= set(addresses) - {self.address}:
            self._check_start(deadline, f"did not see all of {', '.join(addresses)} within {seconds:.0f} s")
            time.sleep(_LOOK_S)

    def sees(self) -> set[str]:
        """The other nodes that it believes to be up now, read from its log."""
        news = re.findall(r"/([0-9.]+):\d+ is now (UP|DOWN)", self._log_text())
        return {address for address, state in dict(news).items() if state == "UP"}

    def stop(self) -> None:
        """End it in good order, as one ends a server, and wait; nothing if it doesn't run."""
        self.begin_stop()
        self.finish_stop()

    def begin_stop(self) -> None:
        """Tell it to end, and don't wait; a paused one has to go on for that."""
        self._send(signal.SIGTERM)
        self._send(signal.SIGCONT)

    def finish_stop(self) -> None:
        """Wait for its end; it is killed if that takes longer than a minute."""
        process = self._process()
        if process is not None and not process.wait_gone(STOP_S):
            self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would; nothing if it doesn't run."""
        process = self._process()
        if process is not None:
            process.send(signal.SIGKILL)
            process.wait_gone(STOP_S)

    def pause(self) -> None:
        """Let it stand still: connections stay and nothing is answered.

        Raises:
            NotRunningError: it isn't there.
            PauseError: it goes on.
        """
        process = self._running()
        process.send(signal.SIGSTOP)
        if not process.wait_paused(_PAUSED_S):
            raise PauseError(f"a thread of {self.address} still runs {_PAUSED_S:g} s after it was paused")

    def resume(self) -> None:
        """Let it go on; raises NotRunningError."""
        self._running().send(signal.SIGCONT)

    def nodetool(self, *words: str) -> str:
        """Give it an order of Cassandra's own `nodetool`, and wait; what that says.

        Raises:
            NotRunningError: it isn't there.
            NodetoolError: it wasn't done.
        """
        self._running()
        java, libraries = tools.require()
        what = f"nodetool {' '.join(words)}, at {self.address}"
        try:
            port = int(self._jmx_file.read_text())
            command = nodetool_command(java, libraries, self.folder, jmx_port=port, words=words)
            done = subprocess.run(  # noqa: S603  # the Java of _candidates, and what our caller asks for
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_NODETOOL_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NodetoolError(f"{what}: {error}") from error
        if done.returncode:
            raise NodetoolError(f"{what}:\n{done.stdout}")
        return done.stdout

    def cpu_seconds(self) -> float:
        """What its process has used of the processors so far; raises NotRunningError."""
        return self._running().cpu_seconds()

    def _process(self) -> Process | None:
        try:
            pid, beginning = self._process_file.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        process = Process(int(pid), int(beginning))
        return process if process.alive() else None

    def _running(self) -> Process:
        process = self._process()
        if process is None:
            raise NotRunningError(f"{self.address} doesn't run")
        return process

    def _send(self, number: signal.Signals) -> None:
        process = self._process()
        if process is not None:
            process.send(number)

    def _is_up(self) -> bool:
        """Whether it answers, and not somebody else in its place."""
        return answers(self.address, self.port, tls=wants_tls(self.settings)) and self.running

    def _check_ports(self) -> None:
        for name in ("native_transport_port", "storage_port"):
            port = int(str(self.settings[name]))
            if not ports.is_free(self.address, port):
                raise PortError(f"{self.address}:{port} ({name}) is taken by another program")

    def _write_files(self) -> None:
        """Its configuration, anew; the log of the last start is kept beside the new one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "cassandra.yaml").write_text(yaml(self.settings))
        (self.folder / "logback.xml").write_text(LOGBACK)
        if self.log.exists():
            self.log.replace(self.folder / "cassandra.log.before")

    def _check_start(self, deadline: float, too_late: str) -> None:
        if not self.running:
            raise StartError(f"{self.address} ended while it started.\n{self._reasons()}")
        if time.monotonic() > deadline:
            raise StartError(f"{self.address} {too_late}.\n{self._reasons()}")

    def _reasons(self) -> str:
        """The last lines of its log that tell of errors, or simply the last ones."""
        lines = self._log_text().splitlines()
        telling = [line for line in lines if _TELLING.match(line)] or lines
        return "\n".join([f"{self.log}:", *telling[-8:]])

    def _log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""
