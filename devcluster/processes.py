"""Processes that outlive who started them, known by id and beginning.

An id alone may belong to somebody else by now. So a process is written down with the tick of its beginning,
and signals go through a pidfd that was opened first and compared then: it can't come to mean another process.
The pidfd also says when it has ended, with all its threads: until then a killed one that is shown as a zombie
still holds its ports.
"""

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATE, _USER_TICKS, _SYSTEM_TICKS, _BEGINNING = 0, 11, 12, 19
"""Fields of /proc/<pid>/stat, counted behind the command's name."""

_LOOK_S = 0.005


@dataclass(frozen=True)
class Process:
    """One process that ran at some time; it may be gone."""

    pid: int
    beginning: int
    """Clock ticks between the machine's start and its own."""

    def alive(self) -> bool:
        """Whether it still runs; one that has ended and only waits to be noticed does not."""
        return not self.wait_gone(0)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it is there."""
        with self._handle() as handle:
            if handle is not None:
                signal.pidfd_send_signal(handle, number)

    def wait_gone(self, seconds: float) -> bool:
        """Wait until it has ended; False if it is still there then."""
        with self._handle() as handle:
            if handle is None:
                return True
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            gone = bool(ended.poll(seconds * 1000))
        if gone:
            _notice(self.pid)
        return gone

    def wait_paused(self, seconds: float) -> bool:
        """Wait until none of its threads runs any more, after SIGSTOP; False if one still does then."""
        deadline = time.monotonic() + seconds
        while runs := self._runs():
            if time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_S)
        return not runs

    def _runs(self) -> bool:
        threads = Path(f"/proc/{self.pid}/task").glob("*/stat")
        states = [stat[_STATE] for thread in threads if (stat := _fields(thread))]
        return any(state not in "TtZX" for state in states)

    def cpu_seconds(self) -> float:
        """What it has used of the processors, itself and the kernel for it; 0 if it is gone."""
        stat = self._stat()
        ticks = int(stat[_USER_TICKS]) + int(stat[_SYSTEM_TICKS]) if stat else 0
        return ticks / os.sysconf("SC_CLK_TCK")

    def _stat(self) -> list[str]:
        stat = _stat(self.pid)
        return stat if stat and int(stat[_BEGINNING]) == self.beginning else []

    @contextmanager
    def _handle(self) -> Iterator[int | None]:
        """It, held; none if it is gone, or its id now that of a thread or another process."""
        try:
            handle = os.pidfd_open(self.pid) if self._stat() else None
        except ProcessLookupError:
            handle = None
        if handle is None:
            yield None
            return
        try:
            yield handle if self._stat() else None
        finally:
            os.close(handle)


def spawn(command: list[str], log: Path) -> Process:
    """Start a program whose output goes to the log, in a group of its own: no Ctrl-C of ours reaches it.

    Not in a session of its own: Linux shares the processors out by session first (`autogroup`), and a single
    thread of one can wait for 100 ms while the many of another run.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setpgroup=0,
        setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM],
    )
    return Process(pid, int(_stat(pid)[_BEGINNING]))


def _stat(pid: int) -> list[str]:
    """Of a process; none if there is no such process."""
    return _fields(Path(f"/proc/{pid}/stat"))


def _fields(stat: Path) -> list[str]:
    """The fields behind the command's name, which may contain anything; none if it is gone."""
    try:
        return stat.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _notice(pid: int) -> None:
    """Take note of the end of a child of ours, so that its entry goes; not of others' children."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
