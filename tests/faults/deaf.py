"""Clients of the pages and the API that ask and never read.

Whether the server has closed one of them can't be seen from its side: what it never read stands before the
end. So the connections of the server's process are looked at.
"""

import socket
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Final, Self
from urllib.parse import urlsplit

from tests.faults import processes
from tests.faults.harness import Server
from tests.faults.waiting import wait_until

_LOOK_EVERY_S: Final = 0.5


class Deaf(threading.Thread):
    """So many clients of each path; who is closed asks anew."""

    def __init__(self, server: Server, clients: Mapping[str, int]) -> None:
        super().__init__(name="deaf", daemon=True)
        self._server = server
        self._port = urlsplit(server.url).port or 0
        self._over = threading.Event()
        self.closed: Counter[str] = Counter()
        """How many of a path the server has closed."""

        paths = [path for path, count in clients.items() for _ in range(count)]
        self._clients = [(path, ask(self._port, path)) for path in paths]

    def run(self) -> None:
        """The thread."""
        while not self._over.wait(_LOOK_EVERY_S):
            there = processes.remote_ports(self._server.pid)
            for number, (path, client) in enumerate(self._clients):
                if client.getsockname()[1] not in there:
                    client.close()
                    self.closed[path] += 1
                    self._clients[number] = path, ask(self._port, path)

    def __enter__(self) -> Self:
        """Wait until the server has all of them."""
        ours = {client.getsockname()[1] for _, client in self._clients}
        wait_until(lambda: ours <= processes.remote_ports(self._server.pid), "all are connected")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave."""
        self._over.set()
        self.join(30)
        for _path, client in self._clients:
            client.close()


def ask(port: int, path: str) -> socket.socket:
    """Ask for a page, with next to no room for the answer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return client
