"""What becomes of requests by what is answered: confirmed, sent again, refused, or the end of it all."""

import re
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
from cassandra import (
    AuthenticationFailed,
    ConsistencyLevel,
    InvalidRequest,
    OperationTimedOut,
    Unauthorized,
    Unavailable,
    WriteFailure,
    WriteTimeout,
    WriteType,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionShutdown
from cassandra.protocol import (
    IsBootstrappingErrorMessage,
    OverloadedErrorMessage,
    ServerError,
    SyntaxException,
)

from storage.base import Requests
from storage.cassandra.connect import Connected
from storage.cassandra.flight import Flight, _Landed
from storage.errors import SchemaError, StorageError, StoreUnavailableError
from storage.settings import CassandraSettings

Answer = BaseException | None
"""An error, or a confirmation."""

AGAIN: dict[str, BaseException] = {
    "overloaded": OverloadedErrorMessage(0x1001, "too much", {}),
    "bootstrapping": IsBootstrappingErrorMessage(0x1002, "not yet", {}),
    "write timeout": WriteTimeout(
        "late", consistency=ConsistencyLevel.ONE, write_type=WriteType.UNLOGGED_BATCH
    ),
    "write failure": WriteFailure(
        "half", consistency=ConsistencyLevel.ONE, write_type=WriteType.UNLOGGED_BATCH
    ),
    "unavailable": Unavailable("away", consistency=ConsistencyLevel.ONE, required_replicas=1),
    "no answer": OperationTimedOut(),
    "lost connection": ConnectionShutdown("gone"),
    "broken pipe": BrokenPipeError("gone"),
    "no node": NoHostAvailable("none", {}),
}
"""Nobody knows whether it was written, or it was not for now."""

THE_END: dict[str, tuple[BaseException, type[StorageError]]] = {
    "unauthorised": (Unauthorized("no MODIFY permission"), SchemaError),
    "wrong password": (AuthenticationFailed("who are you"), SchemaError),
    "no statement": (SyntaxException(0x2000, "what", {}), SchemaError),
    "server error": (ServerError(0x0000, "oops", {}), StoreUnavailableError),
    "a bug of ours": (ValueError("one\ntwo"), StorageError),
}


class Told:
    """A session that gives each request the answers it was told, one at each try, and then confirms it."""

    def __init__(self, answers: dict[str, list[Answer]]) -> None:
        self._answers = {request: deque(told) for request, told in answers.items()}
        self.tries: Counter[str] = Counter()

    def execute_async(self, request: str) -> "_Future":
        """Take a request; a lost node is noticed at once."""
        self.tries[request] += 1
        told = self._answers.get(request)
        answer = told.popleft() if told else None
        if isinstance(answer, NoHostAvailable):
            raise answer
        return _Future(answer)


class Silent:
    """A session that never answers."""

    def execute_async(self, _request: str) -> "_Future":
        """Take a request."""
        return _Future(None, silent=True)


class Crowd:
    """A session that answers nothing before all that may be under way are, or the last one is."""

    def __init__(self, requests: int) -> None:
        self.flight: Flight | None = None
        self.most = 0
        self._left = requests
        self._open: list[Callable[[object], None]] = []

    def execute_async(self, _request: str) -> "Crowd":
        """Take a request."""
        self._left -= 1
        return self

    def add_callbacks(self, confirmed: Callable[[object], None], _failed: object) -> None:
        """Answer it with the others."""
        assert self.flight is not None
        self._open.append(confirmed)
        self.most = max(self.most, len(self._open))
        if not self._left or len(self._open) >= self.flight.window.limit:
            answered, self._open = self._open, []
            for confirm in answered:
                confirm(None)


class Failing:
    """A session that gives every request the same error."""

    def __init__(self, answer: BaseException) -> None:
        self._answer = answer

    def execute_async(self, _request: str) -> "_Future":
        """Take a request."""
        return _Future(self._answer)


@dataclass
class _Future:
    answer: Answer
    silent: bool = False

    def add_callbacks(self, confirmed: Callable[[object], None], failed: Callable[[Any], None]) -> None:
        """Answer at once."""
        if self.silent:
            return
        if self.answer is None:
            confirmed(None)
        else:
            failed(self.answer)


@dataclass
class _Known:
    """What a flight has to know of a cluster."""

    session: object
    settings: CassandraSettings


def _flight(session: object, patience_s: float = 60.0, max_in_flight: int = 16) -> Flight:
    known = _Known(session, CassandraSettings(max_in_flight=max_in_flight))
    return Flight(cast(Connected, known), patience_s=patience_s)


def _counted(flight: Flight) -> tuple[int, int, int]:
    """How many were confirmed, repeated and refused since the last look."""
    found = flight.requests()
    return found.confirmed, found.repeated, found.refused


def test_what_is_confirmed_is_sent_once() -> None:
    """However many they are."""
    session = Told({})
    flight = _flight(session)
    requests = [f"request {number}" for number in range(200)]
    assert flight.deliver(requests) == []
    assert session.tries == Counter(requests)
    assert _counted(flight) == (200, 0, 0)
    assert _counted(flight) == (0, 0, 0), "they are counted anew"


@pytest.mark.parametrize("most", [1, 3, 40])
def test_no_more_are_under_way_than_the_settings_allow(most: int) -> None:
    """And as many, once enough were confirmed quickly."""
    session = Crowd(2000)
    session.flight = _flight(session, max_in_flight=most)
    assert session.flight.deliver(map(str, range(2000))) == []
    assert session.most == most
    assert session.flight.requests().confirmed == 2000


@pytest.mark.parametrize("error", AGAIN.values(), ids=AGAIN)
def test_what_may_succeed_later_is_sent_until_it_is_confirmed(error: BaseException) -> None:
    """And nothing else is sent again for it."""
    session = Told({"second": [error, error]})
    flight = _flight(session)
    assert flight.deliver(["first", "second", "third"]) == []
    assert session.tries == {"first": 1, "second": 3, "third": 1}
    assert _counted(flight) == (3, 2, 0)


def test_what_is_invalid_is_handed_back_and_its_neighbours_are_confirmed() -> None:
    """With the reason; it is not sent again, also where it was only refused at its second try."""
    error = InvalidRequest("not this one")
    session = Told({"first": [error], "third": [AGAIN["overloaded"], error]})
    flight = _flight(session)
    refused = flight.deliver(["first", "second", "third", "fourth"])
    assert sorted(refused) == [("first", error), ("third", error)]
    assert session.tries == {"first": 1, "second": 1, "third": 2, "fourth": 1}
    assert _counted(flight) == (2, 1, 2)


@pytest.mark.parametrize(("error", "meant"), THE_END.values(), ids=THE_END)
def test_anything_else_ends_it(error: BaseException, meant: type[StorageError]) -> None:
    """At once, with the cluster's words in one line."""
    flight = _flight(Told({"second": [error]}))
    with pytest.raises(meant) as raised:
        flight.deliver(["first", "second", "third"])
    assert type(raised.value) is meant
    words = re.escape(str(getattr(error, "message", error)).replace("\n", " "))
    assert re.fullmatch(f"cassandra 127.0.0.1:9042 headrace: {words}(; .*)?", str(raised.value))


def test_silence_ends_it_when_nothing_was_confirmed_for_long() -> None:
    """The caller may try all again."""
    with pytest.raises(StoreUnavailableError, match="the cluster does not answer") as raised:
        _flight(Silent(), patience_s=0.05).deliver(["first"])
    assert raised.value.retriable


def test_errors_end_it_likewise_and_say_why() -> None:
    """The last one is told, whenever it came."""
    with pytest.raises(StoreUnavailableError, match="too much"):
        _flight(Failing(AGAIN["overloaded"]), patience_s=0.25).deliver(["first"])


def test_nothing_to_deliver_is_delivered() -> None:
    """Nobody is asked."""
    assert _flight(Silent()).deliver([]) == []


@pytest.mark.parametrize("error", AGAIN.values(), ids=AGAIN)
def test_the_window_closes_with_failures_and_opens_with_confirmations(error: BaseException) -> None:
    """By half once for all that were under way together; by one for as many as may be under way."""
    flight = _flight(Told({}))
    judged = [flight.judge(_Landed("it", 0.0, error), 1.0) for _ in range(8)]
    assert (judged, flight.window.limit) == ([False] * 8, 4)
    assert flight.judge(_Landed("it", 2.0, error), 2.01) is False
    assert flight.window.limit == 2
    for answers in range(100):
        assert flight.judge(_Landed("it", 3.0 + answers, None), 3.01 + answers) is True
    assert flight.window.limit > 8
    assert flight.requests() == Requests(100, 9, 0, flight.window.limit)


def test_a_refused_request_says_nothing_of_the_clusters_strength() -> None:
    """The window stays as it is."""
    flight = _flight(Told({}))
    before = flight.window.limit
    error = InvalidRequest("not this one")
    assert flight.judge(_Landed("it", 0.0, error), 9.0) == ("it", error)
    assert flight.window.limit == before
