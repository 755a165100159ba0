"""The thread that looks after the files: has them made ahead, seals, checkpoints and trims them.

The committer only ever takes a file over and hands it back. A sealed segment goes when every durable sink
has passed its last block and `keep_hours` are over, or the room is needed; the newest that holds a block
stays, since numbers and stamps go on behind it. If it has to wait for longer
than a few seconds its log is copied into its database, once, away from the commits.

The thread goes on whatever happens to it: what fails is said and tried again in the next round, and a segment
whose files can't be deleted counts until they are, without holding up the others.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ingest.clock import ClockReading
from ingest.errors import JournalError
from ingest.journal.ahead import Ahead, log_bytes_for
from ingest.journal.segment import (
    Segment,
    SegmentHead,
    delete,
    disk_bytes,
    file_errors,
    next_path,
)
from ingest.settings import MIB, JournalSettings
from ingest.sparing import SparingLog
from parser.block import Block
from storage.syncing import sync

_ROUND_S: Final = 0.5
_SETTLED_S: Final = 5.0
_AHEAD_S: Final = 0.1
_AHEAD_AGAIN_S: Final = 60.0
"""From part to part of a log written ahead, and from a failure to the next attempt."""

_SEGMENT_BYTES: Final = 64 * MIB
_HOUR_US: Final = 3_600_000_000


@dataclass(slots=True)
class _Kept:
    """A sealed segment."""

    path: Path
    first_block: int
    last_block: int
    stamp_us: int
    """Of its last block."""

    bytes: int
    sealed: float
    """When, on the monotonic clock."""

    segment: Segment | None
    """Open until its log has been copied."""


class Keeper(threading.Thread):
    """All segments of a journal."""

    def __init__(
        self,
        folder: Path,
        settings: JournalSettings,
        journal: str,
        *,
        on_change: Callable[[], None],
        vfs: str | None = None,
    ) -> None:
        """`on_change` is called, in any thread, when the journal's size may have changed."""
        super().__init__(name="journal-keeper")
        self._folder = folder
        self._journal = journal
        self._max_bytes = settings.max_bytes
        self._keep_us = _microseconds(settings.keep_hours)
        self._segment_bytes = min(_SEGMENT_BYTES, settings.max_bytes // 16)
        self._ahead = Ahead(folder, log_bytes_for(self._segment_bytes), vfs=vfs)
        self._ahead_due = time.monotonic()
        self._on_change = on_change
        self._vfs = vfs
        self._kept: list[_Kept] = []
        self._leaving: list[_Kept] = []
        self._active: _Kept | None = None
        self._passed: dict[str, int] = {}
        self._newest_us = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self.clock = ClockReading.now
        """What is noted of the time when a segment is begun."""

        self._failures = SparingLog("journal_upkeep_failed", time.monotonic)

    # What the committer calls, in its own thread.

    def take_over(self, first: Block) -> Segment:
        """The file made ahead, or a new one, as the segment that begins with this block."""
        with file_errors(self._folder):
            path = next_path(self._folder)
            segment = self._ahead.take(path) or self._create(path)
            try:
                sync(self._folder)
            except OSError:
                segment.close()
                delete(path)
                raise
        segment.begin(SegmentHead(self._journal, first.node, first.id, first.first_record, self.clock()))
        with self._lock:
            self._active = _Kept(path, first.id, first.id - 1, first.stamp_us, 0, 0.0, segment)
        self._wake.set()
        return segment

    def _create(self, path: Path) -> Segment:
        """A new segment; a full disk leaves no half of one, as each attempt would leave another."""
        try:
            return Segment(path, create=True, vfs=self._vfs)
        except JournalError:
            delete(path)
            raise

    def written(self, segment: Segment, blocks: Sequence[Block]) -> bool:
        """Account for a commit; whether the segment has grown enough."""
        size = disk_bytes(segment.path)  # with what of its log was written ahead
        with self._lock:
            if self._active is not None:
                self._active.last_block = blocks[-1].id
                self._active.stamp_us = self._newest_us = blocks[-1].stamp_us
                self._active.bytes = size
        self._on_change()
        return segment.log_bytes >= self._segment_bytes

    def seal(self, segment: Segment) -> None:
        """Take care of a segment that is not written to any more."""
        with self._lock:
            active, self._active = self._active, None
            if active is not None and active.segment is segment:
                active.sealed = time.monotonic()
                self._kept.append(active)
        self._wake.set()

    # What everybody calls.

    def adopt(self, path: Path, head: SegmentHead, last: tuple[int, int, int]) -> None:
        """Take care of a segment that an earlier server has written."""
        kept = _Kept(path, head.first_block, last[0], last[2], disk_bytes(path), 0.0, None)
        self._kept.append(kept)
        self._newest_us = max(self._newest_us, last[2])

    def passed(self, sink: str, block: int) -> None:
        """A durable sink has everything up to this block; names and blocks as they come."""
        with self._lock:
            self._passed[sink] = block
        self._wake.set()

    def keep(self, hours: float) -> None:
        """Keep what all have passed for so long from now on."""
        self._keep_us = _microseconds(hours)
        self._wake.set()

    @property
    def bytes(self) -> int:
        """What the journal takes on the disk."""
        with self._lock:
            active = self._active.bytes if self._active is not None else 0
            return active + self._sealed_bytes()

    @property
    def high_mark(self) -> int:
        """The size at which reading pauses: so that what is under way still fits, and files made ahead."""
        return self._max_bytes - 3 * self._segment_bytes

    @property
    def low_mark(self) -> int:
        """The size at which it goes on."""
        return self._max_bytes - 5 * self._segment_bytes

    def close(self) -> None:
        """End the thread after a last round."""
        self._closing = True
        self._wake.set()

    def run(self) -> None:
        """The thread."""
        while not self._closing:
            self._wake.wait(min(_ROUND_S, max(self._ahead_due - time.monotonic(), 0.0)))
            self._wake.clear()
            for step in (self._make_ahead, self._write_ahead, self._trim, self._settle):
                self._try(step)
        self._try(self._trim)
        self._try(self._let_go)

    def _try(self, step: Callable[[], None]) -> None:
        """Do it, and live on where it fails: without this thread the journal would grow until it is full."""
        try:
            step()
        except Exception as error:  # noqa: BLE001  # a mistake of ours must not end it either
            self._say(step.__name__, error)

    def _say(self, step: str, error: Exception) -> None:
        self._failures.note(step, step=step.strip("_"), folder=str(self._folder), reason=repr(error))

    def _make_ahead(self) -> None:
        if not self._closing:
            with suppress(JournalError):  # then the committer makes one itself, and says what is wrong
                self._ahead.make()

    def _write_ahead(self) -> None:
        """Write a part of the next log while the segment before it fills; nothing where little comes."""
        now = time.monotonic()
        if now < self._ahead_due:
            return
        self._ahead_due = now + _ROUND_S
        active = self._active
        segment = active.segment if active is not None else None
        if segment is not None and segment.log_bytes >= self._segment_bytes // 4:
            self._ahead_due = now + _AHEAD_AGAIN_S
            has_more = self._ahead.write_log()
            self._ahead_due = now + (_AHEAD_S if has_more else _ROUND_S)

    def _trim(self) -> None:
        """Delete what nobody needs, the oldest first, and what could not be deleted before."""
        for stuck in self._leaving.copy():
            self._remove(stuck)
        while (kept := self._deletable()) is not None:
            self._remove(kept)

    def _remove(self, kept: _Kept) -> None:
        """Delete its files; where that fails it stays among those that are leaving, and counts."""
        segment, kept.segment = kept.segment, None
        try:
            if segment is not None:
                segment.close()
            delete(kept.path)
        except OSError as error:
            self._say("delete", error)
            return
        with self._lock:
            self._leaving.remove(kept)
        self._on_change()

    def _deletable(self) -> _Kept | None:
        """The oldest segment if nobody needs it; from now on it is leaving."""
        with self._lock:
            if not self._passed or not self._has_later_blocks():
                return None
            oldest = self._kept[0]
            if oldest.last_block > min(self._passed.values()):
                return None
            young = oldest.stamp_us > self._newest_us - self._keep_us
            active = 2 * self._segment_bytes  # at most, as its log may have been written ahead
            if young and self._keep_us and self._sealed_bytes() < self.low_mark - active:
                return None
            self._leaving.append(self._kept.pop(0))
            return oldest

    def _sealed_bytes(self) -> int:
        """What all sealed segments take, those included whose files could not be deleted yet."""
        return sum(kept.bytes for kept in (*self._kept, *self._leaving))

    def _has_later_blocks(self) -> bool:
        """Whether the oldest sealed segment can go without the journal forgetting where it ends."""
        later = [*self._kept[1:], *([self._active] if self._active is not None else [])]
        return bool(self._kept) and any(kept.last_block >= kept.first_block for kept in later)

    def _let_go(self) -> None:
        """Close what is open, without what was written ahead."""
        for segment in [kept.segment for kept in self._kept if kept.segment is not None]:
            with suppress(OSError):  # the next start does it
                segment.cut_log(segment.log_bytes)
            segment.close()

    def _settle(self) -> None:
        """Copy the logs of segments that stay for a while, and let go of them."""
        due = time.monotonic() - _SETTLED_S
        for kept in [kept for kept in self._kept if kept.segment is not None and kept.sealed < due]:
            segment, kept.segment = kept.segment, None
            if segment is not None:
                with suppress(JournalError):  # its log stays beside it, and is read from there
                    segment.truncate_log()
                segment.close()
                kept.bytes = disk_bytes(kept.path)


def _microseconds(hours: float) -> int:
    return int(hours * _HOUR_US)
