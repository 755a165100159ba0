"""Keeping requests under way until each is confirmed or refused.

What an answer means (native_protocol_v4.spec, 9):

    confirmed                   the window opens by a little
    overloaded, bootstrapping   again, slower
    timeout, lost connection,   nobody knows whether it was written: again, slower; all requests here may be
    unavailable                 written twice without changing anything
    invalid                     never: handed back as refused
    anything else               ends it: StorageError

When nothing at all was confirmed for `patience_s`, it ends with StoreUnavailableError, and the caller
tries the whole from its cursor again. Requests that nobody waits for any more may still be written: that
changes nothing either.

The driver calls back in a thread of its own; that thread only appends to a deque and wakes this one.
"""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

from cassandra import InvalidRequest, OperationTimedOut, RequestExecutionException, protocol
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException

from storage.base import Requests
from storage.cassandra.connect import Connected, consistency
from storage.cassandra.encoding import Batch
from storage.cassandra.meaning import DRIVERS, meaning
from storage.cassandra.window import Window
from storage.errors import StorageError, StoreUnavailableError

Statement = Any
"""Anything that the driver can execute: it ships no types."""

PATIENCE_S: Final = 15.0
_REST_S: Final = 0.1
_AGAIN: Final = (
    RequestExecutionException,
    protocol.RequestExecutionException,
    OperationTimedOut,
    ConnectionException,
    NoHostAvailable,
    OSError,
)


class Refused(NamedTuple):
    """A request that the cluster will never take."""

    statement: Statement
    error: InvalidRequest


class _Landed(NamedTuple):
    statement: Statement
    begun: float
    error: BaseException | None


class Flight:
    """Requests of one session; used by one thread."""

    def __init__(self, connected: Connected, *, patience_s: float = PATIENCE_S) -> None:
        self._session = connected.session
        self._settings = connected.settings
        self._consistency = consistency(connected.settings)
        self._patience_s = patience_s
        self.window = Window(connected.settings.max_in_flight)
        self._confirmed = self._repeated = self._refused = 0

    def deliver(self, statements: Iterable[Statement]) -> list[Refused]:
        """Send all, and wait until each is confirmed or refused; those that were refused.

        Raises:
            StorageError: some may be written and some not; `retriable` says whether to try all again.
        """
        return _Delivery(self, iter(statements)).run()

    def requests(self) -> Requests:
        """What was sent since the last call; the counters begin anew."""
        found = Requests(self._confirmed, self._repeated, self._refused, self.window.limit)
        self._confirmed = self._repeated = self._refused = 0
        return found

    def judge(self, landed: _Landed, now: float) -> bool | Refused:
        """Whether it was confirmed, refused, or has to be sent again."""
        seconds = now - landed.begun
        if landed.error is None:
            self.window.confirmed(now, seconds)
            self._confirmed += 1
            return True
        if isinstance(landed.error, InvalidRequest):
            self._refused += 1
            return Refused(landed.statement, landed.error)
        if not isinstance(landed.error, _AGAIN):
            raise meaning(self._settings, landed.error)
        self.window.failed(now, seconds)
        self._repeated += 1
        return False

    def send(self, statement: Statement, landed: "deque[_Landed]", woken: threading.Event) -> None:
        """Hand a request to the driver, which calls back from its own thread."""
        begun = time.monotonic()
        if isinstance(statement, Batch):  # of rows; all else needs a majority
            statement.consistency_level = self._consistency

        def land(error: BaseException | None) -> None:
            landed.append(_Landed(statement, begun, error))
            woken.set()

        try:
            future = self._session.execute_async(statement)
        except DRIVERS as error:
            land(error)
            return
        future.add_callbacks(lambda _: land(None), partial(land))

    def give_up(self, error: BaseException | None) -> StorageError:
        """What to raise when nothing is confirmed any more."""
        found = None if error is None else meaning(self._settings, error)
        return StoreUnavailableError(str(found or "the cluster does not answer"))

    @property
    def patience_s(self) -> float:
        """How long nothing may be confirmed."""
        return self._patience_s


class _Delivery:
    """One call of `deliver`."""

    def __init__(self, flight: Flight, statements: Iterator[Statement]) -> None:
        self._flight = flight
        self._statements = statements
        self._again: deque[Statement] = deque()
        self._landed: deque[_Landed] = deque()
        self._woken = threading.Event()
        self._under_way = 0
        self._refused: list[Refused] = []
        self._last_good = time.monotonic()
        self._last_error: BaseException | None = None
        self._rest_until = 0.0

    def run(self) -> list[Refused]:
        """Until nothing is left."""
        while self._fill() or self._under_way or self._again:
            self._woken.wait(_REST_S)
            self._woken.clear()
            self._take()
        return self._refused

    def _fill(self) -> bool:
        """Send as much as may be under way; whether there is more."""
        while self._under_way < self._flight.window.limit and time.monotonic() >= self._rest_until:
            statement = self._again.popleft() if self._again else next(self._statements, None)
            if statement is None:
                return False
            self._under_way += 1
            self._flight.send(statement, self._landed, self._woken)
        return True

    def _take(self) -> None:
        now = time.monotonic()
        while self._landed:
            landed = self._landed.popleft()
            self._under_way -= 1
            verdict = self._flight.judge(landed, now)
            if verdict is False:
                self._again.append(landed.statement)
                self._rest_until, self._last_error = now + _REST_S, landed.error
                continue
            self._last_good, self._last_error = now, None
            if isinstance(verdict, Refused):
                self._refused.append(verdict)
        if now - self._last_good > self._flight.patience_s:
            raise self._flight.give_up(self._last_error)
