"""A machine at the far end of a cable that can be pulled, in a network of its own, which only root can make.

What is pulled is its own end. The near end stays up, and knows the far one's hardware address for good, as if
a switch stood between: nobody is told anything, packets are sent and nothing comes back. A socket belongs to
the network in which it was made, so a machine's is made by a thread that has gone there.
"""

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.faults import wire
from tests.support.needing import need

_NEW_NETWORK: Final = 0x40000000
"""CLONE_NEWNET."""

_FAR_HARDWARE: Final = "02:00:00:00:00:02"


class Cable:
    """From this machine to another one."""

    def __init__(self, ip: str) -> None:
        """`ip` is the command; nothing is made yet."""
        number = os.getpid()
        self._ip = ip
        self._name = f"headrace-{number}"
        self._ends = (f"hr{number}n", f"hr{number}f")
        network, place = number >> 6 & 0xFF, number % 64 * 4
        self.near = f"198.18.{network}.{place + 1}"
        """The address of this end; those of 198.18.0.0/15 are for trials."""

        self.far = f"198.18.{network}.{place + 2}"

    @contextmanager
    def laid(self) -> Iterator[None]:
        """It is there, and plugged in.

        Raises:
            OSError: no such networks can be made here.
        """
        near, far = self._ends
        with ExitStack() as undone:
            self._call("netns", "add", self._name)
            undone.callback(self._call, "netns", "del", self._name)
            self._call(
                *("link", "add", near, "type", "veth"),
                *("peer", "name", far, "address", _FAR_HARDWARE, "netns", self._name),
            )
            undone.callback(self._call, "link", "del", near)
            self._call("address", "add", f"{self.near}/30", "dev", near)
            self._call("link", "set", near, "up")
            self._call(*("neigh", "replace", self.far), *("lladdr", _FAR_HARDWARE, "dev", near))
            self._call("-n", self._name, "address", "add", f"{self.far}/30", "dev", far)
            self.plug_in()
            yield

    def plug_in(self) -> None:
        """The far end is there again."""
        self._call("-n", self._name, "link", "set", self._ends[1], "up")

    def pull(self) -> None:
        """The far end is gone, and says nothing to anybody."""
        self._call("-n", self._name, "link", "set", self._ends[1], "down")

    def connect(self, port: int) -> wire.Line:
        """Connect from the far end to a port of the near one."""
        with ThreadPoolExecutor(1, "far") as there:  # the thread stays there until it ends
            return wire.current().over(there.submit(self._connect, port).result())

    def _connect(self, port: int) -> socket.socket:
        with Path("/run/netns", self._name).open() as network:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(network.fileno(), _NEW_NETWORK):
                raise OSError(ctypes.get_errno(), "can't go to another network")
        return socket.create_connection((self.near, port), timeout=60)

    def _call(self, *words: str) -> None:
        done = subprocess.run([self._ip, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


@contextmanager
def cable() -> Iterator[Cable]:
    """One that is plugged in; where there can't be one the test is skipped."""
    ip = shutil.which("ip")
    need(ip is not None, "ip is missing, of the package iproute2")
    need(os.geteuid() == 0, "only root can make another network")
    made = Cable(str(ip))
    with ExitStack() as stack:
        try:
            stack.enter_context(made.laid())
        except OSError as error:  # nothing to install: a kernel, or a container, that doesn't allow it
            pytest.skip(f"another network can't be made here: {error}")
        yield made
