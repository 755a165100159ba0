"""Sockets that walk around a prepared block; see `simulator.blast` for who drives them and how long.

A sender counts in whole records. It may hand over up to its limit, begins a slice only below that, and
always wants to finish what it began. Acknowledgements, `ACK,<n>#`, come in whatever pieces TCP delivers;
n may run ahead of the finished slices by a part of the one under way, but never of what was handed over.
"""

import selectors
import socket
import ssl
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Final, Self

from simulator.errors import AcknowledgementError, UnreachableError
from simulator.prepared import Prepared
from simulator.wire import AckReader

CONNECT_S: Final = 10.0
_NOT_NOW: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_NO_LIMIT: Final = 1 << 62
_READ_BYTES: Final = 65_536


class Sender:
    """One connection."""

    def __init__(
        self,
        sock: socket.socket,
        view: memoryview,
        ends: list[int],
        *,
        first: int,
        step: int,
        ack: bool,
    ) -> None:
        """Send on a connected socket.

        Args:
            sock: owned by the caller.
            view: the block.
            ends: where its records end, 0 first.
            first: the record of the block to begin with.
            step: records of a slice.
            ack: note when slices went out, to know how long their acknowledgements take.
        """
        sock.setblocking(False)
        self.socket = sock
        self.open = True
        self.limit = 0
        """Records that may be handed over so far."""
        self.taken = 0
        """Bytes the socket took."""
        self.latencies: list[float] = []
        self._view, self._ends, self._step, self._ack = view, ends, step, ack
        self._first = self._next = first
        self._pos = self._stop = 0
        self._done = 0
        self._finished: deque[tuple[int, float]] = deque()
        self._acks = AckReader()
        self._ending = False

    @property
    def sent(self) -> int:
        """Whole records handed over."""
        if self._pos == self._stop:
            return self._done
        return self._done + bisect_right(self._ends, self._pos) - 1 - self._first

    @property
    def acknowledged(self) -> int:
        """Records that the server has acknowledged."""
        return self._acks.acknowledged

    @property
    def busy(self) -> bool:
        """Whether there is something to hand over."""
        return self.open and (self._pos < self._stop or self._done < self.limit)

    def write(self) -> None:
        """Hand over what the socket takes of a slice.

        Raises:
            OSError: the connection broke.
        """
        if self._pos == self._stop:
            self._begin()
        try:
            taken = self.socket.send(self._view[self._pos : self._stop])
        except _NOT_NOW:
            return
        self.taken += taken
        self._pos += taken
        if self._pos == self._stop:
            self._done += self._next - self._first
            if self._ack:
                self._finished.append((self._done, time.perf_counter()))

    def read(self) -> bool:
        """Take what the server says.

        Returns:
            False when it has nothing more to say

        Raises:
            OSError: the connection broke.
            AcknowledgementError: it says what cannot be.
        """
        try:
            data = self.socket.recv(_READ_BYTES)
        except _NOT_NOW:
            return True
        if data and not self._ack:
            raise AcknowledgementError("the server wrote to a connection that asked for no acknowledgements")
        self._acks.feed(data, self.sent)
        now_s = time.perf_counter()
        while self._finished and self._finished[0][0] <= self.acknowledged:
            self.latencies.append(now_s - self._finished.popleft()[1])
        return bool(data) and not (self._ending and self.acknowledged >= self.sent)

    def half_close(self) -> bool:
        """Say that no more will come; over TLS, where that can't be said, hear the last acknowledgement.

        Returns:
            False when there is nothing more to hear

        Raises:
            OSError: the connection broke.
        """
        if not isinstance(self.socket, ssl.SSLSocket):
            self.socket.shutdown(socket.SHUT_WR)
            return True
        self._ending = True
        return self.acknowledged < self.sent

    def _begin(self) -> None:
        last = len(self._ends) - 1
        self._first = self._next % last
        self._next = min(self._first + min(self._step, self.limit - self._done), last)
        self._pos, self._stop = self._ends[self._first], self._ends[self._next]


class Senders:
    """All connections of a run, and the selector that knows whose turn it is."""

    def __init__(
        self,
        host: str,
        port: int,
        prepared: Prepared,
        *,
        connections: int,
        step: int,
        ack: bool,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Connect; use as a context manager to close again.

        Raises:
            UnreachableError: nobody listens there.
        """
        self._allowed: int | None = 0
        self.stopped = False
        view, ends = memoryview(prepared.payload), prepared.ends().tolist()
        with ExitStack() as stack:
            self._selector = stack.enter_context(selectors.DefaultSelector())
            self._senders: list[Sender] = []
            for index in range(connections):
                sock = stack.enter_context(_connect(host, port, tls))
                stack.callback(_say_goodbye, sock)
                if step == 1 or ack:  # Nagle's algorithm would hold small slices back, and be timed with them
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                first = index * prepared.records // connections
                self._senders.append(Sender(sock, view, ends, first=first, step=step, ack=ack))
                self._selector.register(sock, selectors.EVENT_READ, self._senders[-1])
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        """The open connections."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close them all."""
        self._stack.close()

    def __iter__(self) -> Iterator[Sender]:
        """One after the other."""
        return iter(self._senders)

    @property
    def sent(self) -> int:
        """Whole records handed over."""
        return sum(sender.sent for sender in self._senders)

    @property
    def taken(self) -> int:
        """Bytes that the sockets took."""
        return sum(sender.taken for sender in self._senders)

    @property
    def acknowledged(self) -> int:
        """Records that the server has acknowledged."""
        return sum(sender.acknowledged for sender in self._senders)

    @property
    def open(self) -> bool:
        """Whether there is a connection left."""
        return any(sender.open for sender in self._senders)

    @property
    def pending(self) -> bool:
        """Whether something is to be handed over."""
        return any(sender.busy for sender in self._senders)

    def allow(self, records: int | None) -> None:
        """Let so many records go out since the beginning, in equal shares; None for any number."""
        if records == self._allowed:
            return
        self._allowed = records
        share, rest = divmod(_NO_LIMIT if records is None else records, len(self._senders))
        for index, sender in enumerate(self._senders):
            sender.limit = share + (index < rest)
            self._watch(sender)

    def stop(self) -> None:
        """Begin no more slices."""
        self.stopped = True
        for sender in self._senders:
            sender.limit = 0

    def turn(self, patience_s: float) -> None:
        """Write and read once wherever that is possible now, or becomes possible in time."""
        for key, events in self._selector.select(patience_s):
            sender: Sender = key.data
            try:
                if events & selectors.EVENT_READ and not sender.read():
                    self._end(sender)
                elif events & selectors.EVENT_WRITE and sender.busy:
                    sender.write()
            except OSError:
                self._end(sender)
            else:
                self._watch(sender)

    def half_close(self) -> None:
        """Say on each connection that no more will come."""
        for sender in self._senders:
            try:
                if not sender.half_close():
                    self._end(sender)
            except OSError:
                self._end(sender)

    def _watch(self, sender: Sender) -> None:
        """Ask for a turn to write only where there is something to write."""
        if not sender.open:
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if sender.busy else 0)
        if self._selector.get_key(sender.socket).events != events:
            self._selector.modify(sender.socket, events, sender)

    def _end(self, sender: Sender) -> None:
        if sender.open:
            sender.open = False
            self._selector.unregister(sender.socket)


def _connect(host: str, port: int, tls: ssl.SSLContext | None) -> socket.socket:
    try:
        sock = socket.create_connection((host, port), CONNECT_S)
    except OSError as error:
        raise UnreachableError(f"can't connect to {host}:{port}: {error.strerror or error}") from error
    if tls is None:
        return sock
    try:
        return tls.wrap_socket(sock, server_hostname=host)
    except OSError as error:
        sock.close()
        raise UnreachableError(f"no TLS with {host}:{port}: {error.strerror or error}") from error


def _say_goodbye(sock: socket.socket) -> None:
    """End a TLS connection so that the server knows that this was all."""
    if isinstance(sock, ssl.SSLSocket):
        with suppress(OSError, ValueError):
            sock.settimeout(CONNECT_S)
            sock.unwrap()
