"""One segment of the journal: a SQLite database with a table of blocks.

WAL with `synchronous=FULL`: a commit returns when its bytes are synced. Pages of 8 KiB: a block of 1 KB
costs 11 KB of log (69 KB with pages of 64 KiB), and large blocks gain nothing from larger ones.
Checkpoints happen only when the keeper asks for one, never within a commit and never by closing. Behind its
last frame a log may hold zeros, written ahead. A new file is changed to WAL under `EXTRA`, so that the
rollback journal of that change can't come back after a power cut.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

import apsw
import msgspec

from ingest.clock import ClockReading
from ingest.errors import JournalBrokenError, JournalError, JournalFullError
from ingest.settings import MIB
from parser.block import Block, DamagedBlockError, decode_block

APPLICATION_ID: Final = 0x48524A4C  # "HRJL"
SCHEMA_VERSION: Final = 1

PAGE_BYTES: Final = 8192
LOG_HEADER_BYTES: Final = 32
FRAME_BYTES: Final = 24 + PAGE_BYTES

_SCHEMA: Final = f"""
PRAGMA synchronous = EXTRA;
PRAGMA page_size = {PAGE_BYTES};
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
PRAGMA journal_mode = WAL;
CREATE TABLE segment (
    journal TEXT NOT NULL, node INTEGER NOT NULL, first_block INTEGER NOT NULL,
    first_record INTEGER NOT NULL, clock BLOB NOT NULL
) STRICT;
CREATE TABLE blocks (
    id INTEGER PRIMARY KEY, first_record INTEGER NOT NULL, records INTEGER NOT NULL,
    stamp_us INTEGER NOT NULL, crc INTEGER NOT NULL, header BLOB NOT NULL, payload BLOB NOT NULL
) STRICT;
"""

_COMPANIONS: Final = ("", "-wal", "-shm")

_SECTORS_BYTES: Final = 4096
"""What the kernel reads of a disk at once, and so what one sector costs that can't be read."""

_PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOSPC})

# A full disk shows itself in these ways too, where SQLite grows its shared memory.
_NO_ROOM: Final = frozenset({apsw.SQLITE_IOERR_SHMSIZE, apsw.SQLITE_IOERR_SHMOPEN})


class SegmentHead(msgspec.Struct, frozen=True):
    """What a segment says about itself; it has none before its first block."""

    journal: str
    node: int
    first_block: int
    first_record: int
    clock: ClockReading
    """The clocks when it was begun."""


class BlockRow(msgspec.Struct, frozen=True, array_like=True):
    """A row of `blocks`, its header and payload not yet looked at."""

    id: int
    first_record: int
    records: int
    stamp_us: int
    crc: int
    header: bytes
    payload: bytes

    def decode(self) -> Block:
        """The block.

        Raises:
            DamagedBlockError: it is not as it was written.
        """
        if not isinstance(self.header, bytes) or not isinstance(self.payload, bytes):
            raise DamagedBlockError(f"block {self.id}: its row is damaged")
        return decode_block(self.id, self.header, self.payload, self.crc)


def segment_paths(folder: Path) -> list[Path]:
    """All segments of a journal in their order."""
    return sorted(path for path in folder.glob("*.db") if path.stem.isdigit())


def next_path(folder: Path) -> Path:
    """The path of a segment behind all that are there."""
    paths = segment_paths(folder)
    return folder / f"{int(paths[-1].stem) + 1 if paths else 1:08}.db"


def companions(path: Path) -> list[Path]:
    """The files that belong to a segment, as far as they exist."""
    return [file for suffix in _COMPANIONS if (file := Path(f"{path}{suffix}")).exists()]


def delete(path: Path) -> None:
    """Delete the files of a segment that nobody has open."""
    for file in companions(path):
        file.unlink()


def disk_bytes(path: Path) -> int:
    """What a segment takes on the disk."""
    return sum(file.stat().st_size for file in companions(path))


def log_of(path: Path) -> Path:
    """A segment's log."""
    return Path(f"{path}-wal")


def log_size(frames: int) -> int:
    """How long a log with so many frames is."""
    return LOG_HEADER_BYTES + frames * FRAME_BYTES if frames else 0


def used_log(path: Path) -> int:
    """How much of a segment's log was ever written to, in bytes up to whole frames; behind it are zeros."""
    log = log_of(path)
    if not log.exists():
        return 0
    with log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - MIB)
            kept = len(_readable(file, start, end).rstrip(b"\0"))
            if kept:
                return max(log_size(-(-(start + kept - LOG_HEADER_BYTES) // FRAME_BYTES)), LOG_HEADER_BYTES)
            end = start
    return 0


def read_log(path: Path) -> bytes:
    """What was ever written to a segment's log, without the zeros written ahead."""
    used, log = used_log(path), log_of(path)
    if not used:
        return b""
    with log.open("rb") as file:
        return _readable(file, 0, used)


def read_file(path: Path) -> bytes:
    """All of a file, with zeros where the disk can't read it."""
    with path.open("rb") as file:
        return _readable(file, 0, file.seek(0, os.SEEK_END))


def _readable(file: BinaryIO, start: int, end: int) -> bytes:
    """A part of a file, with zeros where the disk can't read it."""
    parts: list[bytes] = []
    for at in range(start, end, _SECTORS_BYTES):
        size = min(_SECTORS_BYTES, end - at)
        try:
            parts.append(os.pread(file.fileno(), size, at))
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            parts.append(bytes(size))
    return b"".join(parts)


def is_written_ahead(path: Path) -> bool:
    """Whether a segment's log has zeros behind what was written to it."""
    log = log_of(path)
    return log.exists() and log.stat().st_size > used_log(path)


class Segment:
    """An open segment."""

    def __init__(self, path: Path, *, create: bool = False, vfs: str | None = None) -> None:
        """Open a segment.

        Raises:
            JournalError: it can't be opened, or is none of ours.
        """
        self.path = path
        self.log_bytes = 0
        """How far its log was written by this connection."""

        self._head: SegmentHead | None = None
        if not create:
            _require_a_page(path)
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
        with _errors(path):
            self._db = apsw.Connection(str(path), flags=flags, vfs=vfs)
        try:
            self._set_up(create=create)
        except BaseException:
            self._db.close(True)
            raise

    def _set_up(self, *, create: bool) -> None:
        with _errors(self.path):
            self._db.set_busy_timeout(5000)
            self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._db.wal_autocheckpoint(0)
            self._db.set_wal_hook(self._on_commit)
            if create:
                self._db.execute(_SCHEMA).fetchall()
            self._db.pragma("synchronous", "FULL")
            found = self._db.pragma("application_id"), self._db.pragma("user_version")
        if found[0] != APPLICATION_ID or not found[1]:  # or the power went while it was made
            raise JournalBrokenError(f"{self.path}: does not say that it is a journal segment")
        if found[1] != SCHEMA_VERSION:
            raise JournalError(
                f"{self.path}: can't be read by this version of Headrace "
                f"(version {found[1]}, expected {SCHEMA_VERSION}); move the journal's folder away, "
                "or use the version that wrote it"
            )

    def begin(self, head: SegmentHead) -> None:
        """Say whose the segment is; written together with the first blocks."""
        self._head = head

    def append(self, blocks: Sequence[Block]) -> None:
        """Write blocks durably, all or none.

        Raises:
            JournalFullError: the disk has no room; try again when it has.
            JournalBrokenError: the file failed; nothing may be written to it again.
        """
        rows = [_to_row(block) for block in blocks]
        try:
            with _errors(self.path):
                self._db.execute("BEGIN IMMEDIATE")
                if self._head is not None:
                    self._db.execute("INSERT INTO segment VALUES (?, ?, ?, ?, ?)", _to_values(self._head))
                self._db.executemany("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
                self._db.execute("COMMIT")
        except JournalError:
            self._roll_back()
            raise
        self._head = None

    def _on_commit(self, _: apsw.Connection, _name: str, frames: int) -> int:
        self.log_bytes = log_size(frames)
        return apsw.SQLITE_OK

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            with _errors(self.path):
                self._db.execute("ROLLBACK")

    def head(self) -> SegmentHead | None:
        """What the segment says about itself; None while it is empty.

        It has no check of its own, but its first block, written with it, has the same numbers.

        Raises:
            JournalError: it can't be read, or is not as it was written.
        """
        with _errors(self.path):
            row = self._db.execute("SELECT * FROM segment").fetchone()
        if row is None:
            return None
        head = _to_head(self.path, *row)
        if self._first_numbers() not in (None, (head.first_block, head.first_record)):
            raise JournalBrokenError(f"{self.path}: its head is damaged")
        return head

    def _first_numbers(self) -> tuple[object, object] | None:
        """The block and the record that its first row begins with; None where SQLite can't find that row."""
        with suppress(JournalError), _errors(self.path):
            found: tuple[object, object] | None = self._db.execute(
                "SELECT id, first_record FROM blocks ORDER BY id LIMIT 1"
            ).fetchone()
            return found
        return None

    def last(self) -> Block:
        """The last block; it has one if it has a head.

        Raises:
            DamagedBlockError: it is not as it was written.
            JournalError: it can't be read.
        """
        with _errors(self.path):
            row = self._db.execute("SELECT * FROM blocks ORDER BY id DESC LIMIT 1").fetchone()
        if row is None:
            raise JournalBrokenError(f"{self.path}: its blocks are gone")
        return BlockRow(*row).decode()

    def rows(self, after: int, limit: int) -> list[BlockRow]:
        """The next blocks with id > after, in order."""
        with _errors(self.path):
            found = self._db.execute("SELECT * FROM blocks WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
            return [BlockRow(*row) for row in found]

    def row(self, block: int) -> BlockRow | None:
        """One block, or None where it isn't there."""
        with _errors(self.path):
            row = self._db.execute("SELECT * FROM blocks WHERE id = ?", (block,)).fetchone()
        return row and BlockRow(*row)

    def is_sound(self) -> bool:
        """Whether SQLite finds nothing wrong with the whole file; for small ones only."""
        with _errors(self.path):
            return bool(self._db.pragma("quick_check") == "ok")

    def log_frames(self) -> int:
        """How many frames of its log SQLite takes for valid; nothing is changed by asking."""
        with _errors(self.path):
            valid, _ = self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
            return max(valid, 0)

    def cut_log(self, used: int) -> None:
        """Give back what of its log lies behind so many bytes; nobody may write to it any more."""
        log = log_of(self.path)
        if log.exists() and log.stat().st_size > used:
            os.truncate(log, used)

    def truncate_log(self) -> None:
        """Copy the log into the database and empty it, or do nothing while somebody reads."""
        with _errors(self.path):
            self._db.set_busy_timeout(0)
            try:
                self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            except apsw.BusyError:
                pass
            finally:
                self._db.set_busy_timeout(5000)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close(True)


def write_segment(path: Path, journal: str, blocks: Sequence[Block]) -> SegmentHead:
    """Write a segment anew with these blocks; under its name it is whole and has no log."""
    first, last = blocks[0], blocks[-1]
    head = SegmentHead(journal, first.node, first.id, first.first_record, ClockReading(last.stamp_us, 0, ""))
    making = Path(f"{path}.new")
    delete(making)
    segment = Segment(making, create=True)
    segment.begin(head)
    segment.append(blocks)
    segment.truncate_log()
    segment.close()
    for file in companions(making)[1:]:
        file.unlink()
    making.rename(path)
    return head


def _require_a_page(path: Path) -> None:
    """Keep SQLite away from a database that was cut to nothing: it would delete the log beside it."""
    with suppress(FileNotFoundError):
        if path.stat().st_size < PAGE_BYTES:
            raise JournalBrokenError(f"{path}: is cut off")


def _to_head(path: Path, *values: object) -> SegmentHead:
    named = dict(zip(SegmentHead.__struct_fields__, values, strict=True))
    try:
        clock = msgspec.msgpack.decode(msgspec.convert(named["clock"], bytes))
        return msgspec.convert(named | {"clock": clock}, SegmentHead)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise JournalBrokenError(f"{path}: its head is damaged") from error


def _to_row(block: Block) -> tuple[int | bytes, ...]:
    header, crc = block.encode()
    return block.id, block.first_record, block.records, block.stamp_us, crc, header, block.payload


def _to_values(head: SegmentHead) -> tuple[str | int | bytes, ...]:
    clock = msgspec.msgpack.encode(head.clock)
    return head.journal, head.node, head.first_block, head.first_record, clock


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Say what an error of the file system means for the journal.

    Raises:
        JournalFullError: it passes when there is room, or a file descriptor.
        JournalBrokenError: it is another one.
    """
    try:
        yield
    except OSError as error:
        kind = JournalFullError if error.errno in _PASSING else JournalBrokenError
        raise kind(f"{path}: {error.strerror}") from error


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except apsw.FullError as error:
        raise JournalFullError(f"{path}: no room on the journal's disk") from error
    except apsw.CantOpenError as error:  # nothing was written, so it is safe to try again
        raise JournalFullError(
            f"{path}: can't be opened; are there no file descriptors left (ulimit -n), or no permissions?"
        ) from error
    except UnicodeDecodeError as error:  # what was a number or a blob came as a text that is none
        raise JournalBrokenError(f"{path}: a value is damaged") from error
    except apsw.Error as error:
        if getattr(error, "extendedresult", None) in _NO_ROOM:
            raise JournalFullError(f"{path}: no room on the journal's disk") from error
        raise JournalBrokenError(f"{path}: {error}") from error
