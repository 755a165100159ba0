"""A sink in a process of its own: journal in, tables out.

It runs as `python -m ingest.sink`, started and watched by `ingest.supervisor`. Beside the loop, in a
thread, the same work would make it half as fast and the loop three times as late (measured for
docs/architecture.md): row by row work holds the interpreter's lock.

The first line on its standard input says what to do; each further line is the newest durable block; the
end of the input is the end of the parent, and then of the sink. On its standard output it reports, a line
each, what it has done. All lines are JSON. What it writes moves its cursor in the same step, by
compare-and-set, so that not even a sink that survived its parent can write a block a second time.
"""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec

from ingest.claims import Sighting, Sightings
from ingest.errors import JournalError
from ingest.journal import JournalReader, require_free_numbers
from parser.block import Block
from parser.parsed import ParsedBlock
from storage.base import AHEAD_MS, Cursor, DamagedBlock, Requests, TableWriter
from storage.errors import CursorMovedError, DatabaseRestartedError, StorageError
from storage.factory import open_writer
from storage.settings import StorageSettings

_LOOK_EVERY_S: Final = 1.0
_FIRST_REST_S: Final = 0.25
_LONGEST_REST_S: Final = 2.0
_PURGE_EVERY_S: Final = 60.0
_PURGE_S: Final = 0.5
"""Longest time between two writes that goes into deleting, but for one step."""

_DAY_MS: Final = 86_400_000


class SinkTask(msgspec.Struct, frozen=True):
    """What a sink is to do."""

    folder: str
    journal: str
    node: int
    storage: StorageSettings


class SinkReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a sink has done since its last report."""

    block: int
    """Where its cursor is."""

    durable: int = 0
    """The block up to which nothing can be lost any more; the journal may forget what is behind."""

    stamp_us: int = 0
    """Of that block."""

    trouble: str = ""
    """Why it is waiting; empty while it works."""

    stored: int = 0
    rejected: dict[str, int] = {}
    unkept: int = 0
    empty: int = 0
    set_aside: int = 0
    damaged: int = 0
    requests: Requests = Requests()
    again: tuple[int, int] | None = None
    """First and last block that it writes again, as a node of the database may have forgotten some."""

    gap: tuple[int, int] | None = None
    """First and last block that it needed and the journal has no more."""

    held: str | None = None
    """Why it purges nothing, in words; empty where it does, None where that is no news."""

    log_bytes: int = 0
    sightings: list[Sighting] = []
    """Which devices came on which connections, as far as that is news."""


class _Orders:
    """What the parent says, read in a thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._changed = threading.Condition()
        self._newest = 0
        self.over = False

    def listen(self) -> None:
        """Read until the parent is gone."""
        for line in self._stream:
            with self._changed:
                self._newest = int(line)
                self._changed.notify()
        with self._changed:
            self.over = True
            self._changed.notify()

    def wait_for(self, block: int, seconds: float) -> None:
        """Sleep until this block is durable, or it is over, or so long."""
        with self._changed:
            self._changed.wait_for(lambda: self.over or self._newest >= block, timeout=seconds)

    def rest(self, seconds: float) -> None:
        """Sleep, unless it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.over, timeout=max(0.0, seconds))


class _Batch(NamedTuple):
    """Blocks to write in one step."""

    blocks: Sequence[ParsedBlock | DamagedBlock]
    full: bool
    """Whether there is more, as far as can be seen: the sink is behind."""


class _Sink:
    """One run: from opening the tables to the first error."""

    def __init__(self, task: SinkTask, orders: _Orders, out: BinaryIO, writer: TableWriter) -> None:
        self._task = task
        self._orders = orders
        self._out = out
        self._writer = writer
        seen = self._writer.claim(task.node, task.journal, adopt=False, to_write=False)
        require_free_numbers(Path(task.folder), seen)
        claim = self._writer.claim(task.node, task.journal, adopt=False)
        self._cursor = claim.cursor
        self._reached = claim.reached
        self._reader = JournalReader(Path(task.folder), claim.cursor_record)
        self._read = claim.cursor.block if claim.cursor else 0
        self._helper = ThreadPoolExecutor(1, "read-ahead")
        self._sightings = Sightings()
        self._purged = 0.0
        self._newest_us = 0
        self._ahead, self._compared = False, float("-inf")
        self._held: str | None = None  # the run before may have told of something that is over
        again = (self._read + 1, claim.reached) if claim.reached > self._read else None
        self._report(SinkReport(self._read, again=again))
        self._close_gap()  # soon: it is said by the run that found it, or not at all

    def run(self) -> None:
        """Work until it is over."""
        batch = self._next_batch()
        while not self._orders.over:
            begun = time.monotonic()
            if batch.blocks:
                ahead = self._helper.submit(self._next_batch) if batch.full else None
                self._write(batch.blocks)
                self._orders.rest(0 if ahead else begun + self._task.storage.linger_s - time.monotonic())
                batch = ahead.result() if ahead else self._next_batch()
            else:
                more = self._purge(0)
                self._tell_durable()
                self._orders.wait_for(self._read + 1, 0 if more else _LOOK_EVERY_S)
                batch = self._next_batch()

    def _next_batch(self) -> _Batch:
        """What is there to write; behind, in a thread, while the batch before it is written."""
        wanted = self._task.storage.batch_bytes
        blocks = self._reader.read(self._read, wanted)
        if blocks:
            self._read = blocks[-1].id
        readable = [item for item in blocks if isinstance(item, Block)]
        parsed = iter(ParsedBlock.of_all(readable))
        items = [next(parsed) if isinstance(item, Block) else item for item in blocks]
        return _Batch(items, full=sum(len(block.payload) for block in readable) >= wanted)

    def close(self) -> None:
        """Let go of the journal."""
        self._helper.shutdown()
        self._reader.close()

    def _close_gap(self) -> None:
        """Begin at the journal's first block where the next one needed is there no more; say so."""
        first = self._reader.first_block()
        if first is not None and first > self._read + 1:
            if self._reached and first > self._reached + 1:
                self._report(SinkReport(self._read, gap=(self._reached + 1, first - 1)))
            if self._cursor is not None:
                self._reader = JournalReader(Path(self._task.folder))
            self._read = first - 1

    def _write(self, blocks: Sequence[ParsedBlock | DamagedBlock]) -> None:
        written = self._writer.write(self._cursor, blocks, self._task.journal)
        item = blocks[-1]
        last = item.block if isinstance(item, ParsedBlock) else item
        self._newest_us = last.stamp_us
        self._cursor = Cursor(self._task.journal, last.id)
        damaged = sum(isinstance(item, DamagedBlock) for item in blocks)
        for each in blocks:
            if isinstance(each, ParsedBlock):
                self._sightings.note(each)
        self._report(
            SinkReport(
                last.id,
                stamp_us=last.stamp_us,
                stored=written.stored,
                rejected=written.rejected,
                unkept=written.unkept,
                empty=written.empty,
                set_aside=written.set_aside,
                damaged=damaged,
                log_bytes=_log_bytes(self._task.storage),
                requests=self._writer.requests(),
                sightings=self._sightings.take(),
            )
        )
        self._purge(written.stored)

    def _report(self, report: SinkReport) -> None:
        """Tell the parent, and how much of it is there for good."""
        self._durable = self._writer.durable()
        _report(self._out, msgspec.structs.replace(report, durable=self._durable))

    def _tell_durable(self) -> None:
        """While nothing comes, what was written becomes durable all the same."""
        if self._writer.durable() > self._durable and self._cursor is not None:
            self._report(SinkReport(self._cursor.block))

    def _purge(self, stored: int) -> bool:
        """Delete more of what is too old than was stored, as far as there is so much; whether there is.

        Old is what is old by the newest stamp: the only time that was accepted.
        """
        keep_days = self._task.storage.keep_days
        if keep_days is None or not self._newest_us or time.monotonic() < self._purged + _PURGE_EVERY_S:
            return False
        try:
            more = not self._is_ahead() and self._purge_some(int(keep_days * _DAY_MS), stored)
            if not self._ahead:
                self._tell_held("")
        except DatabaseRestartedError:
            raise
        except StorageError as error:  # nothing that has to be written waits for it
            more = False
            self._tell_held(str(error))
        if not more:
            self._purged = time.monotonic()
        return more

    def _is_ahead(self) -> bool:
        """Whether our stamps are far ahead of the database's clock; asked once a minute."""
        if time.monotonic() >= self._compared + _PURGE_EVERY_S:
            self._compared = time.monotonic()
            ahead_ms = self._newest_us // 1000 - self._writer.clock()
            self._ahead = ahead_ms > AHEAD_MS
            if self._ahead:
                self._tell_held(f"stamps are {ahead_ms // 3_600_000} h ahead of the database's clock")
        return self._ahead

    def _tell_held(self, reason: str) -> None:
        """Tell why nothing is purged, or that it is, where that is another word than before."""
        if reason != self._held and self._cursor is not None:
            self._held = reason
            self._report(SinkReport(self._cursor.block, held=reason))

    def _purge_some(self, keep_ms: int, stored: int) -> bool:
        """Delete for a moment; whether more is left."""
        before = self._newest_us // 1000 - keep_ms
        done, until = 0, time.monotonic() + _PURGE_S
        while done <= 2 * stored and time.monotonic() < until and not self._orders.over:
            step = self._writer.purge(before)
            if not step:
                return False
            done += step
        return True


def _report(out: BinaryIO, report: SinkReport) -> None:
    """Tell the parent."""
    out.write(msgspec.json.encode(report) + b"\n")
    out.flush()


def _log_bytes(storage: StorageSettings) -> int:
    if storage.backend != "sqlite":
        return 0
    log = Path(f"{storage.sqlite.path}-wal")
    return log.stat().st_size if log.exists() else 0


def main() -> None:
    """Work until the parent closes our input; errors that pass are reported and waited for."""
    os.setpgrp()  # no key of a terminal reaches it; in one session, by which Linux shares the processors out
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when it is over
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=SinkTask)
    orders = _Orders(sys.stdin.buffer)
    threading.Thread(target=orders.listen, daemon=True).start()
    try:
        _work(task, orders)
    except BaseException as error:  # noqa: BLE001  # whatever it is, the parent starts another one
        if not isinstance(error, BrokenPipeError):  # else it is the parent that is gone
            traceback.print_exc()
        os._exit(1)  # the thread that listens must not be waited for; the tables are closed


def _work(task: SinkTask, orders: _Orders) -> None:
    """Run again and again until it is over, with rests after troubles."""
    rest = _FIRST_REST_S
    while not orders.over:
        begun = time.monotonic()
        trouble = _run_once(task, orders, sys.stdout.buffer)
        if trouble:
            _report(sys.stdout.buffer, SinkReport(-1, trouble=trouble))
            lasted = time.monotonic() - begun > _LONGEST_REST_S
            rest = _FIRST_REST_S if lasted else min(2 * rest, _LONGEST_REST_S)
            orders.rest(rest)


def _run_once(task: SinkTask, orders: _Orders, out: BinaryIO) -> str:
    """Run until it is over or something goes wrong; what went wrong."""
    try:
        with closing(open_writer(task.storage)) as writer, closing(_Sink(task, orders, out, writer)) as sink:
            sink.run()
    except CursorMovedError as error:
        return f"another writer was here: {error}"
    except DatabaseRestartedError:
        return ""  # nothing to wait for: the next run begins further back
    except (StorageError, JournalError) as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main()
