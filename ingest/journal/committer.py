"""The thread that makes blocks durable, a group at a time.

Whatever was submitted while the last commit was under way goes into the next one, so that a slow disk
means larger commits and not a longer queue. What a commit can run into decides the state:

    state     full disk   room again   file failed   new file failed too
    WRITING   FULL                     WRITING (1)   FAILED
    FULL                  WRITING      WRITING (1)   FAILED
    FAILED    for ever: nothing more is written, and nothing more is acknowledged

(1) The group is written again, to a new segment; nothing is ever tried again on a file that failed,
since after a failed sync nobody knows what is on the disk. Readers skip the ids they have had.
"""

import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, Protocol

from ingest.errors import JournalError, JournalFullError
from ingest.journal.segment import Segment
from parser.block import Block

_GROUP_BYTES: Final = 8 << 20
_RETRY_S: Final = 0.5


class JournalState(StrEnum):
    """What the journal can do at the moment."""

    WRITING = "writing"
    FULL = "full"
    FAILED = "failed"


class Segments(Protocol):
    """Where the committer gets its files from."""

    def take_over(self, first: Block) -> Segment:
        """A new segment that begins with this block; may raise any JournalError."""
        ...

    def written(self, segment: Segment, blocks: Sequence[Block]) -> bool:
        """Account for a commit; whether the segment has grown enough."""
        ...

    def seal(self, segment: Segment) -> None:
        """Take care of a segment that is not written to any more."""
        ...


class Committer(threading.Thread):
    """Commits what is submitted, in order, until it is closed."""

    def __init__(
        self,
        segments: Segments,
        *,
        on_commit: Callable[[Sequence[Block], float], None],
        on_state: Callable[[JournalState, str], None],
    ) -> None:
        """`on_commit` gets blocks and seconds taken, `on_state` changes and why; both in this thread."""
        super().__init__(name="journal-committer")
        self._segments = segments
        self._on_commit = on_commit
        self._on_state = on_state
        self._segment: Segment | None = None
        self._queue: list[Block] = []
        self._wake = threading.Condition()
        self._closing = False
        self.state = JournalState.WRITING

    def submit(self, block: Block) -> None:
        """Queue a block; it is durable when `on_commit` has it."""
        with self._wake:
            self._queue.append(block)
            self._wake.notify()

    def close(self) -> None:
        """Commit what is queued, unless the disk is full or has failed, and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    def run(self) -> None:
        """The thread."""
        try:
            while (group := self._take()) and self._commit(group):
                pass
        except Exception as error:  # noqa: BLE001  # whatever it is, nobody may wait for this thread in vain
            self._change(JournalState.FAILED, repr(error))
        if self._segment is not None:
            self._segments.seal(self._segment)

    def _take(self) -> list[Block]:
        """The next group; empty when it is over."""
        with self._wake:
            while not self._queue and not self._closing:
                self._wake.wait()
            size = count = 0
            while count < len(self._queue) and size < _GROUP_BYTES:
                size += len(self._queue[count].payload)
                count += 1
            group, self._queue = self._queue[:count], self._queue[count:]
            return group

    def _commit(self, group: list[Block]) -> bool:
        """Make a group durable; if it can't be, nothing behind it may be either."""
        begun = time.perf_counter()
        failures = 0
        while True:
            try:
                self._write(group)
            except JournalFullError as error:
                self._change(JournalState.FULL, str(error))
                if self._rest():
                    return False
            except JournalError as error:
                failures += 1
                self._abandon_segment()
                if failures > 1:
                    self._change(JournalState.FAILED, str(error))
                    return False
            else:
                self._change(JournalState.WRITING, "")
                self._on_commit(group, time.perf_counter() - begun)
                return True

    def _write(self, group: list[Block]) -> None:
        if self._segment is None:
            self._segment = self._segments.take_over(group[0])
        self._segment.append(group)
        if self._segments.written(self._segment, group):
            self._segments.seal(self._segment)
            self._segment = None

    def _abandon_segment(self) -> None:
        if self._segment is not None:
            self._segments.seal(self._segment)
        self._segment = None

    def _change(self, state: JournalState, reason: str) -> None:
        if state is not self.state:
            self.state = state
            self._on_state(state, reason)

    def _rest(self) -> bool:
        """Wait before the next attempt; whether to give up instead, as the server ends."""
        with self._wake:
            self._wake.wait_for(lambda: self._closing, timeout=_RETRY_S)
            return self._closing
