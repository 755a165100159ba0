"""Accepting goes on through every error: of one connection at once, of our own after a rest."""

import asyncio
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from ingest import acceptor
from ingest.acceptor import Acceptor
from tests.ingest.floor import reached

ROOT = Path(__file__).parents[2]


class Failing(socket.socket):
    """A listening socket whose next accepts fail as told."""

    errors: list[int]

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """As a socket does it, when there is nothing left to fail with."""
        if self.errors:
            code = self.errors.pop(0)
            raise OSError(code, os.strerror(code))
        return super().accept()


@pytest.fixture
def listening() -> Iterator[Failing]:
    """On a free port."""
    with Failing(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.errors = []
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(False)
        yield sock


class Hall:
    """Who was accepted, and how often the acceptor had to rest."""

    def __init__(self, listening: Failing) -> None:
        self.accepted: list[socket.socket] = []
        self.rests = 0
        self.crowded = False
        self.acceptor = Acceptor(
            listening,
            lambda sock, _: self.accepted.append(sock),
            exhausted=self._rest,
            crowded=lambda: self.crowded,
        )
        self.acceptor.start()

    def _rest(self) -> None:
        self.rests += 1

    def knock(self) -> socket.socket:
        """Somebody comes; the kernel takes it at once."""
        return socket.create_connection(("127.0.0.1", self.acceptor.port), timeout=10)

    def close(self) -> None:
        """Leave nothing open."""
        self.acceptor.close()
        for sock in self.accepted:
            sock.close()


def _rests(lines: list[EventDict]) -> list[str]:
    return [line["event"] for line in lines if str(line["event"]).startswith("listener_")]


@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETUNREACH])
async def test_an_error_of_one_connection_costs_no_rest(listening: Failing, code: int) -> None:
    hall = Hall(listening)
    listening.errors = [code] * 40
    with hall.knock():
        await reached(lambda: hall.accepted, "the next one")
    assert hall.rests == 0
    hall.close()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINVAL])
async def test_an_error_of_our_own_is_rested_on(
    listening: Failing, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it comes: one line when it begins, one when it has been over for a while."""
    monkeypatch.setattr(acceptor, "_REST_S", 0.01)
    monkeypatch.setattr(acceptor, "_CALM_S", 0.5)
    with capture_logs() as lines:
        hall = Hall(listening)
        listening.errors = [code] * 3
        with hall.knock():
            await reached(lambda: hall.accepted, "the one that waited")
        assert hall.rests == 3
        await reached(lambda: len(_rests(lines)) == 2, "the line at the end")
    assert _rests(lines) == ["listener_rests", "listener_goes_on"]
    hall.close()


async def test_nobody_is_accepted_while_it_is_crowded(listening: Failing) -> None:
    """Who waits in the kernel's queue meanwhile is let in afterwards, without another knock."""
    hall = Hall(listening)
    hall.crowded = True
    with hall.knock(), hall.knock():
        for _ in range(20):
            await asyncio.sleep(0)
        assert not hall.accepted
        hall.crowded = False
        await reached(lambda: len(hall.accepted) == 2, "both")
    hall.close()


async def test_it_may_be_closed_while_it_rests(listening: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes after it, and closing again is nothing."""
    monkeypatch.setattr(acceptor, "_REST_S", 0.01)
    hall = Hall(listening)
    listening.errors = [errno.EMFILE] * 2
    with hall.knock():
        await reached(lambda: hall.rests, "the rest")
        hall.acceptor.close()
        hall.acceptor.close()
        await asyncio.sleep(0.05)
    assert not hall.acceptor.open
    assert (hall.rests, hall.accepted) == (1, [])


def test_out_of_descriptors_the_listener_rests_and_recovers_by_itself() -> None:
    """For real, in a process of its own: who is connected goes on, who knocks is accepted later."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.ingest.exhausted"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
