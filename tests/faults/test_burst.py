"""Many knock at once: none of them is left at the door."""

import socket
from contextlib import ExitStack
from typing import Final

import pytest

from tests.faults import wire
from tests.faults.harness import Server
from tests.faults.waiting import wait_until

pytestmark = pytest.mark.fault

_MANY: Final = 200
"""More than are accepted in one turn, and no multiple of it."""


def test_a_burst_is_accepted_to_its_last(server: Server) -> None:
    """Also those for whom there was no turn at first, without anybody knocking after them."""
    server.start()
    with ExitStack() as stack:
        knocks = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.ack_port), 60))
            for _ in range(_MANY)
        ]
        for knock in knocks:
            stack.enter_context(wire.current().over(knock))
        wait_until(lambda: server.metric("headrace_connections_open") == _MANY, "all are connected", 10)
