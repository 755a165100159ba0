"""What other processes are doing, by their ids; psutil ships no types, so it stays behind this page."""

import os
import signal
from collections.abc import Iterable

import psutil  # type: ignore[import-untyped]  # see above

from tests.faults.waiting import wait_until


def children(pid: int) -> list[int]:
    """The processes that this one has started, and those that they have."""
    return [int(child.pid) for child in psutil.Process(pid).children(recursive=True)]


def command_line(pid: int) -> list[str]:
    """How a process was called; nothing if it is gone."""
    try:
        return [str(part) for part in psutil.Process(pid).cmdline()]
    except psutil.NoSuchProcess:
        return []


def resident_bytes(pid: int) -> int:
    """What a process takes of the memory."""
    return int(psutil.Process(pid).memory_info().rss)


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    return int(psutil.Process(pid).num_fds())


def files(pid: int) -> list[str]:
    """The paths of the files that a process has open."""
    return [str(file.path) for file in psutil.Process(pid).open_files()]


def remote_ports(pid: int) -> set[int]:
    """The ports at the other end of a process's connections."""
    connections = psutil.Process(pid).net_connections("tcp")
    return {int(one.raddr.port) for one in connections if one.raddr and one.status != psutil.CONN_CLOSE_WAIT}


def alive(pids: Iterable[int]) -> set[int]:
    """Those that are still there; one that only waits to be noticed by its parent is not."""
    found = set()
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.add(pid)
        except psutil.NoSuchProcess:
            continue
    return found


def wait_gone(pids: Iterable[int], seconds: float = 20.0) -> None:
    """Wait until none of them is there; fail if one stays."""
    waited = list(pids)
    wait_until(lambda: not alive(waited), f"the processes {waited} are gone", seconds)


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal, if the process is still there."""
    if alive([pid]):
        os.kill(pid, number)
