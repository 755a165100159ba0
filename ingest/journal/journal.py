"""The journal as the server sees it: open it, submit blocks, be told what is durable."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ingest.clock import ClockReading, check_clock
from ingest.journal.committer import Committer, JournalState
from ingest.journal.keeper import Keeper
from ingest.journal.owner import identify, lock
from ingest.journal.recovery import recover
from ingest.journal.renumbering import Unasked, note_unasked, renumber, taken_numbers
from ingest.journal.segment import file_errors
from ingest.settings import JournalSettings
from parser.block import Block
from storage.base import Claim

_CLOSE_S: Final = 10.0


class Tail(msgspec.Struct, frozen=True):
    """Where a journal ends, and so where numbers and stamps go on."""

    block: int = 0
    next_record: int = 0
    stamp_us: int = 0


class JournalStatistics(msgspec.Struct, frozen=True):
    """A journal at one moment."""

    state: JournalState
    reason: str
    """Why it is not writing; empty where it is."""

    bytes: int
    queued_bytes: int
    """Submitted and not yet durable."""

    bounded: bool
    """Whether the sinks are so far behind that the journal has reached its size."""


class Journal:
    """One server's journal."""

    def __init__(self, settings: JournalSettings, node: int, *, vfs: str | None = None) -> None:
        """Lock the journal, and find where it ends; it is made where there is none.

        `vfs` is SQLite's name of another file system, for breaking it on purpose.

        Raises:
            JournalLockedError: another server has it.
            JournalError: it is not this node's, or can't be used.
        """
        self.folder = Path(settings.path)
        self._lock = lock(self.folder)
        try:
            identity, self.is_new = identify(self.folder, self._lock, node)
            self.id = identity.journal
            with file_errors(self.folder):
                found = list(recover(self.folder, self.id))
        except BaseException:
            os.close(self._lock)
            raise
        self._found = found
        self.tail = Tail(*found[-1].last) if found else Tail()
        self._state = JournalState.WRITING, ""
        self._queued: dict[int, int] = {}
        self._bounded = False
        self._notify: Callable[[], None] = lambda: None
        self._committer: Committer | None = None
        self._keeper = Keeper(self.folder, settings, self.id, on_change=self._review, vfs=vfs)
        for segment in found:
            self._keeper.adopt(*segment)
        self._review()

    def goes_on_alone(self) -> None:
        """Note that numbers go on behind the tail without anybody who knows which are taken.

        Raises:
            JournalError: it can't be noted.
        """
        with file_errors(self.folder):
            note_unasked(self.folder, Unasked(self.tail.block + 1, self.tail.next_record))

    def renumber(self, claim: Claim) -> bool:
        """Number blocks anew whose numbers turn out to be taken; whether there were any.

        Then it has to be closed, and opened anew.

        Raises:
            JournalError: it can't be done; nothing has changed.
        """
        with file_errors(self.folder):
            begin = taken_numbers(self.folder, claim)
            if begin is None:
                return False
            renumber(self.folder, self.id, begin, claim)
            return True

    def check_clock(self) -> None:
        """Doubt the wall clock if it jumped since the journal was last written.

        Raises:
            ClockError: it did.
        """
        if self._found:
            check_clock(ClockReading.now(), self._found[-1].head.clock, self.tail.stamp_us)

    def start(
        self,
        *,
        on_commit: Callable[[Sequence[Block], float], None],
        on_change: Callable[[], None],
        clock: Callable[[], ClockReading] = ClockReading.now,
    ) -> None:
        """Begin to commit. All three are called in threads of the journal.

        `on_commit` gets blocks that are durable by now, in order, and the seconds it took; `on_change`
        says that `statistics` has something new about state or size; `clock` says the time that the server
        goes by, which the next start holds its own against.
        """
        self._notify = on_change
        self._keeper.clock = clock
        self._committer = Committer(
            self._keeper,
            on_commit=lambda blocks, seconds: self._committed(blocks, seconds, on_commit),
            on_state=self._changed,
        )
        self._keeper.start()
        self._committer.start()

    def submit(self, block: Block) -> None:
        """Queue a block; it is durable when `on_commit` has it."""
        assert self._committer is not None  # noqa: S101  # it was started
        self._queued[block.id] = len(block.payload)
        self._committer.submit(block)

    def passed(self, sink: str, block: int) -> None:
        """A durable sink has everything up to this block; all of them report, from 0 on."""
        self._keeper.passed(sink, block)

    def keep(self, hours: float) -> None:
        """Keep blocks that every sink has passed for so long from now on."""
        self._keeper.keep(hours)

    @property
    def statistics(self) -> JournalStatistics:
        """The journal at this moment."""
        queued = sum(list(self._queued.values()))
        return JournalStatistics(*self._state, self._keeper.bytes, queued, self._bounded)

    def close(self) -> bool:
        """Commit what is queued and let go of everything; whether all is durable.

        A thread that doesn't end, as its disk stands still, may write yet: then the journal stays locked for
        as long as the process lives.
        """
        if self._committer is not None:
            self._committer.close()
            self._committer.join(_CLOSE_S)
            self._keeper.close()
            self._keeper.join(_CLOSE_S)
            if self._committer.is_alive() or self._keeper.is_alive():
                return not self._queued
        os.close(self._lock)
        return not self._queued

    def _committed(
        self,
        blocks: Sequence[Block],
        seconds: float,
        on_commit: Callable[[Sequence[Block], float], None],
    ) -> None:
        last = blocks[-1]
        self.tail = Tail(last.id, last.next_record, last.stamp_us)
        for block in blocks:
            self._queued.pop(block.id, None)
        on_commit(blocks, seconds)

    def _changed(self, state: JournalState, reason: str) -> None:
        self._state = state, reason
        self._notify()

    def _review(self) -> None:
        """Hold the size against its marks."""
        keeper = self._keeper
        bounded = keeper.bytes > (keeper.low_mark if self._bounded else keeper.high_mark)
        if bounded is not self._bounded:
            self._bounded = bounded
            self._notify()
