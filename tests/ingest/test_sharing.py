"""Ports that several listeners share, and what becomes of those who wait at one that closes."""

import socket

import pytest

from ingest.acceptor import listening_sockets, reserved_sockets
from ingest.errors import ListenError
from parser.framing import Ending
from tests.ingest.floor import RECORD, floor, reached


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
