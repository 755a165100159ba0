"""How far a copy has come, kept in the keyspace that it goes to; nothing of it is valid anywhere else.

A mark is saved only when the cluster can't forget any more what came before it: when it has stood for two
periods of the commit log, and no node was started anew or is missing since. It moves by compare-and-set, so
two copies can't run at once.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from storage.cassandra.claims import compare_and_set, restarted, sync_period_s
from storage.cassandra.connect import Connected, serial_consistency
from storage.cassandra.meaning import shown
from storage.copying.source import BEGINNING, Place
from storage.errors import CursorMovedError, DatabaseRestartedError, SchemaError, StoreUnavailableError

_READ: Final = "SELECT value FROM headrace WHERE key = ?"
_MOVE: Final = "UPDATE headrace SET value = ? WHERE key = ? IF value = ?"

_PATIENCE_S: Final = 60.0
_LOOK_EVERY_S: Final = 1.0


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Where a copy stands: in which pass over the readings, and how far in it."""

    number: int = 0
    """Which pass, from 0."""

    since: int = 0
    """It copies what was received since then, in ms."""

    fingerprint: str
    """Of the source, when the pass began."""

    until: int
    """Where the next pass begins, in ms, if the source is written meanwhile."""

    stored: int
    """`Source.stored_before` of that time; if it is another one then, the next pass copies everything."""

    place: Place = BEGINNING
    rows: int = 0
    """Readings that this pass has copied."""

    done: bool = False
    """All the other tables are copied too."""

    blocks: dict[int, int] = {}
    """The cursors that are handed over then, by node."""


class Marks:
    """The mark of one source in one keyspace."""

    def __init__(
        self,
        connected: Connected,
        source: str,
        *,
        wait_s: float | None = None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`wait_s` is how long a mark has to stand; without it two periods of the cluster's commit log."""
        self._connected = connected
        self._key = f"copy:{source}"
        self._now = now
        self._sleep = sleep
        self._wait_s = 2 * sync_period_s(connected) if wait_s is None else wait_s
        self._generations = connected.generations()
        self._standing: deque[tuple[Mark, float]] = deque()
        self._value: str | None = None

    def load(self) -> Mark | None:
        """The mark that an earlier run has left."""
        self._value = self._read()
        try:
            return None if self._value is None else msgspec.json.decode(self._value, type=Mark)
        except msgspec.MsgspecError as error:
            raise SchemaError(
                f"{shown(self._connected.settings)}: {self._key} is not readable: {error}"
            ) from error

    def reached(self, mark: Mark) -> None:
        """Everything up to here was confirmed; save the newest mark that has stood long enough."""
        self._standing.append((mark, self._now()))
        self._advance()

    def settle(self, mark: Mark) -> None:
        """Wait until the cluster can't forget anything of this mark, and save it.

        Raises:
            StoreUnavailableError: a node is missing.
        """
        self._standing.append((mark, self._now()))
        self._sleep(self._wait_s)
        deadline = self._now() + _PATIENCE_S
        self._advance()
        while self._standing:
            if self._now() > deadline:
                raise StoreUnavailableError(
                    f"{shown(self._connected.settings)}: a node is down that confirmed some of the rows"
                )
            self._sleep(_LOOK_EVERY_S)
            self._advance()

    def save(self, mark: Mark) -> None:
        """Save a mark that says nothing new about rows."""
        value = msgspec.json.encode(mark).decode()
        if not compare_and_set(self._connected, _MOVE, value, self._key, self._value):
            found = self._read()
            if found != value:  # else an earlier try went through, although nobody heard of it
                raise CursorMovedError(
                    f"{shown(self._connected.settings)}: another copy of the same database is running"
                )
        self._value = value

    def _advance(self) -> None:
        """Save the newest mark that has stood, if every node that can have confirmed rows is still up."""
        stood = [mark for mark, since in self._standing if since + self._wait_s <= self._now()]
        if stood and self._all_up():
            self.save(stood[-1])
            for _ in stood:
                self._standing.popleft()

    def _all_up(self) -> bool:
        found = self._connected.generations()
        if restarted(self._generations, found):
            raise DatabaseRestartedError(
                f"{shown(self._connected.settings)}: a node started anew, and may have forgotten some rows"
            )
        missing = self._generations.keys() - found.keys()
        self._generations |= found
        return not missing

    def _read(self) -> str | None:
        statement = self._connected.bound(_READ, self._key)
        statement.consistency_level = serial_consistency(self._connected.settings)
        (rows,) = self._connected.ask([statement])
        return rows[0][0] if rows else None
