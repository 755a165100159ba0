"""A machine whose every record carries a running number, and that knows what was acknowledged.

The number stands in spindle_speed_rpm. A sender keeps a window of unacknowledged records open, so it
loads the server as much as the server takes, or at a pace of its own. The last record of each packet has its
second half in the next one: wherever a stream ends, there is one that was not read whole. When its connection
is lost a sender either goes on with new numbers, or sends again whatever was not acknowledged.
"""

import socket
import threading
import time
from collections import Counter
from typing import Final

from tests.faults import figures, wire
from tests.faults.waiting import wait_until

_PACKET: Final = 250

SILENCE_S: Final = 2.0
"""A machine that is acknowledged nothing for longer than this notices something."""


def record(device: str, number: int, order: str = "{device},{t},{n},{c},{p},{v}") -> bytes:
    """One record; `order` is that of the fields."""
    return (order.format(device=device, t=35.2, n=number, c=2.5, p=3.7, v=380) + "#").encode()


class Sender(threading.Thread):
    """Sends until told to stop; may be pointed at a new port while it looks for the server."""

    def __init__(
        self,
        device: str,
        port: int,
        *,
        window: int = 2_000,
        resends: bool = False,
        per_second: float | None = None,
    ) -> None:
        """At most `per_second` records are sent, as fast as they are acknowledged without it."""
        super().__init__(name=device, daemon=True)
        self.device = device
        self.port = port
        self.sent: Counter[int] = Counter()
        """How often each number was handed to a socket."""

        self.acknowledged: set[int] = set()
        self.longest_silence_s = 0.0
        """The longest time that a connection was open and nothing new was acknowledged."""

        self._wire = wire.current()
        self._window = window
        self._resends = resends
        self._rest_s = 0.0 if per_second is None else _PACKET / per_second
        self._due = 0.0
        self._stopping = threading.Event()
        self._next = 0

    def stop(self, seconds: float = 30.0) -> None:
        """Send no more, take the last acknowledgement, and end."""
        self._stopping.set()
        self.join(seconds)
        assert not self.is_alive(), f"{self.device} still waits for its last acknowledgement"

    def wait_for_more(self, count: int = 1) -> None:
        """Wait until so many more records are acknowledged than now."""
        goal = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= goal, f"{self.device} is acknowledged {count} more")

    def abandon(self) -> None:
        """Send no more; there may be no server to wait for."""
        self._stopping.set()

    def run(self) -> None:
        """The thread."""
        while not self._stopping.is_set():
            try:
                with self._wire.connect(self.port) as connection:
                    self._deliver(connection)
            except OSError:
                time.sleep(0.02)  # a lost connection; the next one may find the server again

    def _deliver(self, connection: wire.Line) -> None:
        """One connection: until told to stop, or it ends from the other side."""
        session = _Session(self._unacknowledged() if self._resends else [])
        try:
            while not self._stopping.is_set():
                while session.open < self._window:
                    self._send(connection, session)
                if not self._hear(connection, session):
                    return
            connection.sendall(session.rest)
            connection.shutdown(socket.SHUT_WR)
        finally:  # also where nothing more can be sent: what the server said before can still be heard
            while self._hear(connection, session):
                pass

    def _send(self, connection: wire.Line, session: "_Session") -> None:
        self._wait_until_due()
        numbers = session.again[:_PACKET] or list(range(self._next, self._next + _PACKET))
        session.again = session.again[_PACKET:]
        self._next = max(self._next, numbers[-1] + 1)
        self.sent.update(numbers)
        session.numbers += numbers
        *whole, last = [record(self.device, number) for number in numbers]
        half = len(last) // 2
        packet = b"".join((session.rest, *whole, last[:half]))
        session.rest = last[half:]
        connection.sendall(packet)

    def _wait_until_due(self) -> None:
        """Keep the pace; what was late is made up for, but for no more than a second."""
        now = time.monotonic()
        self._due = max(self._due, now - 1.0)
        time.sleep(max(0.0, self._due - now))
        self._due += self._rest_s

    def _hear(self, connection: wire.Line, session: "_Session") -> bool:
        """Take acknowledgements; False at the end of the stream."""
        data = connection.recv(4096)
        *answers, session.tail = (session.tail + data).split(b"#")
        if answers:
            before, session.acknowledged = session.acknowledged, int(answers[-1].removeprefix(b"ACK,"))
            assert before <= session.acknowledged <= len(session.numbers), "an acknowledgement can't be true"
            self.acknowledged.update(session.numbers[before : session.acknowledged])
            now = time.monotonic()
            self.longest_silence_s = max(self.longest_silence_s, now - session.heard)
            session.heard = now
        return bool(data)

    def _unacknowledged(self) -> list[int]:
        return sorted(self.sent.keys() - self.acknowledged)


class _Session:
    """What one connection carried."""

    def __init__(self, again: list[int]) -> None:
        self.again = again
        """Numbers to send before any new one."""

        self.numbers: list[int] = []
        self.rest = b""
        """Of the last record, what the next packet begins with."""

        self.acknowledged = 0
        self.tail = b""
        self.heard = time.monotonic()

    @property
    def open(self) -> int:
        """Records sent and not yet acknowledged."""
        return len(self.numbers) - self.acknowledged


def deliver(port: int, data: bytes, *, records: int | None = None) -> int:
    """Send these bytes to the acknowledging port, and close; how many records were acknowledged."""
    with wire.current().connect(port, 60) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    count = int(answer.rstrip(b"#").rpartition(b"ACK,")[2] or 0)
    figures.current().deliver(data.count(b"#"), count)
    assert records is None or count == records
    return count
