"""Who comes and goes beside a load: machines that send a few records and leave, strangers, and an operator.

They come one after the other, at a steady pace, each kind in its turn; an operator has the configuration read
anew now and then. What the machines sent is counted by number as everywhere. Of the strangers it is known how
each must end: refused at the door, or a reject of what it left.
"""

import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count, cycle
from typing import Final, Self

from tests.faults import wire
from tests.faults.harness import Server
from tests.faults.oracle import check_numbers, stored_numbers
from tests.faults.sender import deliver, record
from tests.faults.waiting import wait_until

HALF_A_GREETING: Final = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)
"""How a TLS client begins to speak, and never goes on."""

ALLOWED: Final = {"ingest": {"allow": ["127.0.0.1/32"]}}
"""What the server has to be told, so that one address is refused."""

_DEVICE: Final = "visitor"
_RECORDS: Final = 10
_REFUSED_FROM: Final = "127.0.0.2"
_STAYING: Final = 20
"""So many strangers stay at a time, until the next one comes."""

_REFUSED: Final = 'headrace_connections_refused_total{why="not_allowed"}'


class Visitors(threading.Thread):
    """For as long as the context lasts, and each kind at least once."""

    def __init__(self, server: Server, *, every_s: float, reload_every_s: float) -> None:
        """One of them comes every `every_s`."""
        super().__init__(name="visitors", daemon=True)
        self._server = server
        self._every_s = every_s
        self._reload_every_s = reload_every_s
        self._over = threading.Event()
        self._numbers = count(0, _RECORDS)
        self._staying: deque[socket.socket] = deque()
        self._refused = 0
        self._failure: Exception | None = None

    def run(self) -> None:
        """The thread."""
        strangers = (self._noise, self._half_a_greeting, self._broken_record, self._refused_address)
        acts = [act for stranger in strangers for act in (self._machine, stranger)]
        try:
            self._act(acts)
        except Exception as error:  # noqa: BLE001  # it is raised where the test waits
            self._failure = error
        finally:
            for sock in self._staying:
                sock.close()

    def _act(self, acts: list[Callable[[], None]]) -> None:
        self._server.reload()
        due = time.monotonic() + self._reload_every_s
        for number, act in enumerate(cycle(acts)):
            if self._over.wait(self._every_s) and number >= len(acts):
                return
            act()
            if time.monotonic() >= due:
                self._server.reload()
                due += self._reload_every_s

    def __enter__(self) -> Self:
        """Let them come."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """No more of them.

        Raises:
            Exception: one was not served as it should be.
        """
        self._over.set()
        self.join(120)
        assert not self.is_alive(), "a visitor still waits"
        if self._failure is not None:
            raise self._failure

    def check(self) -> int:
        """Once all is stored: each ended as it must; how many rows there are of them."""
        sent = next(self._numbers)
        rows = stored_numbers(self._server.tables, _DEVICE)
        check_numbers(_DEVICE, rows, range(sent))
        wait_until(lambda: self._server.metric(_REFUSED) == self._refused, "the refused ones are counted")
        events = [line["event"] for line in self._server.said()]
        assert "configuration_changed" in events
        assert "configuration_refused" not in events
        assert "Traceback" not in self._server.log.read_text()
        return rows.total()

    def _machine(self) -> None:
        first = next(self._numbers)
        data = b"".join(record(_DEVICE, number) for number in range(first, first + _RECORDS))
        deliver(self._server.ack_port, data, records=_RECORDS)

    def _noise(self) -> None:
        with self._knock() as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n\xff\0")

    def _half_a_greeting(self) -> None:
        sock = self._knock()
        sock.sendall(HALF_A_GREETING)
        self._staying.append(sock)
        if len(self._staying) > _STAYING:
            self._staying.popleft().close()

    def _broken_record(self) -> None:
        line = wire.current().connect(self._server.port, 60)
        line.sendall(record(_DEVICE, 0)[:-5])
        wire.break_off(line)

    def _refused_address(self) -> None:
        with self._knock((_REFUSED_FROM, 0)) as sock, suppress(ConnectionError):
            assert not sock.recv(1), "it was let in"
        self._refused += 1

    def _knock(self, source: tuple[str, int] | None = None) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._server.port), 60, source)
