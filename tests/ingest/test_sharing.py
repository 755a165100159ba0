"""Ports that several listeners share, and what becomes of those who wait at one that closes."""

import asyncio
import socket
import threading
from pathlib import Path

import pytest

from ingest.acceptor import Acceptor, listening_sockets, reserved_sockets
from ingest.errors import ListenError
from ingest.settings import IngestSettings
from parser.framing import Ending
from tests.ingest.building import DEADLINE_S
from tests.ingest.floor import RECORD, floor, reached

HOSTS = ["127.0.0.1", "::1"] if Path("/proc/net/if_inet6").exists() else ["127.0.0.1"]
"""This machine by the protocols its kernel speaks."""


async def test_those_who_wait_in_the_queue_of_a_closing_listener_are_heard() -> None:
    """Whoever had connected and sent before the end is in the last blocks, and nobody is reset unheard."""
    async with floor() as serving:
        machines = []
        for _ in range(20):  # the kernel takes them in while the loop does not run
            machines.append(socket.create_connection(("127.0.0.1", serving.listener.ports[1]), timeout=20))
            machines[-1].sendall(RECORD)
        await serving.listener.close()
        assert not serving.listener.listening
        serving.listener.stop()
        assert len(serving.opened) == 20
        assert serving.records == 20
        assert Ending.RESET not in serving.endings
        await reached(lambda: len(serving.closed) == 20, "all are closed in order")
        for machine in machines:
            machine.close()


async def test_a_port_is_shared_by_those_who_share_it() -> None:
    """Both get connections; and one that doesn't share is refused, whoever came first."""
    first = await listening_sockets("127.0.0.1", 0, shared=True)
    port = first[0].getsockname()[1]
    second = await listening_sockets("127.0.0.1", port, shared=True)
    with pytest.raises(ListenError, match="in use"):
        await listening_sockets("127.0.0.1", port)
    for sock in (*first, *second):
        sock.close()
    alone = await listening_sockets("127.0.0.1", 0)
    with pytest.raises(ListenError, match="in use"):
        await listening_sockets("127.0.0.1", alone[0].getsockname()[1], shared=True)
    alone[0].close()


@pytest.mark.parametrize("host", ["gate..plant", "ü..plant", "x" * 64])
async def test_a_host_that_can_not_be_looked_up_is_named(host: str) -> None:
    """As any other that can't be listened on."""
    with pytest.raises(ListenError, match=f"can't listen on {host} port 0"):
        await listening_sockets(host, 0)


async def test_a_reserved_port_takes_no_connection_and_keeps_its_number() -> None:
    """Nobody gets lost in a queue that nobody accepts from."""
    reserved = await reserved_sockets("127.0.0.1", 0, shared=True)
    port = reserved[0].getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=20)
    listening = await listening_sockets("127.0.0.1", port, shared=True)
    socket.create_connection(("127.0.0.1", port), timeout=20).close()
    with pytest.raises(ListenError, match="in use"):
        await reserved_sockets("127.0.0.1", port, shared=False)
    for sock in (*reserved, *listening):
        sock.close()


@pytest.mark.parametrize("host", HOSTS)
async def test_who_begins_to_connect_as_a_listener_ends_reaches_the_other_one(host: str) -> None:
    """Its first packet is passed over while the old one is still there, the next one finds the new one."""
    (old,) = await listening_sockets(host, 0, shared=True)
    accepted: list[socket.socket] = []
    ending = Acceptor(old, lambda sock, _: accepted.append(sock), exhausted=lambda: None)
    ending.start()
    port = ending.port
    before = socket.create_connection((host, port), timeout=DEADLINE_S)
    ending.leave_newcomers()
    late = asyncio.create_task(asyncio.open_connection(host, port))
    await reached(lambda: accepted, "who had connected")
    before.sendall(RECORD)
    assert await asyncio.get_running_loop().sock_recv(accepted[0], 100) == RECORD
    await asyncio.sleep(0.1)
    assert not late.done()
    (new,) = await listening_sockets(host, port, shared=True)
    ending.finish()
    _, writer = await asyncio.wait_for(late, DEADLINE_S)
    for sock in (new.accept()[0], new, before, *accepted):
        sock.close()
    writer.close()


async def test_a_listener_that_leaves_newcomers_to_the_other_one_does_not_listen() -> None:
    """From the first moment of its end on, so that nobody is sent to it by who asks whether it is ready."""
    async with floor(IngestSettings(port=0, share_port=True)) as leaving:
        assert leaving.listener.listening
        ending = asyncio.create_task(leaving.listener.close())
        await asyncio.sleep(0)
        assert not ending.done()
        assert not leaving.listener.listening
        await ending


class Crowd:
    """Machines that come and go in threads of their own, as fast as they can."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._machines = [threading.Thread(target=self._come_and_go, daemon=True) for _ in range(8)]
        self.heard = 0
        self.failed: list[OSError] = []
        for machine in self._machines:
            machine.start()

    def _come_and_go(self) -> None:
        while not self._over.wait(0.001):
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=DEADLINE_S) as machine:
                    machine.shutdown(socket.SHUT_WR)
                    machine.recv(1)
                self.heard += 1
            except OSError as error:
                self.failed.append(error)

    async def goes_on(self) -> None:
        """Many have come since."""
        before = self.heard
        await reached(lambda: self.heard > before + 200, "machines that come")

    async def leave(self) -> None:
        """Come no more."""
        self._over.set()
        for machine in self._machines:
            await asyncio.to_thread(machine.join)


async def test_no_connect_fails_while_listeners_on_one_port_come_and_go() -> None:
    """Neither from the queue of one that closes, nor half-way through the handshake of the kernel."""
    shared = IngestSettings(port=0, share_port=True)
    async with floor(shared) as staying:
        port = staying.listener.ports[0]
        crowd = Crowd(port)
        for _ in range(5):
            async with floor(IngestSettings(port=port, share_port=True)) as leaving:
                await crowd.goes_on()
                await leaving.listener.close()
            await crowd.goes_on()
        await crowd.leave()
        assert crowd.failed == []
