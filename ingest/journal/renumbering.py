"""Numbers that were given out while nobody could ask the tables, and new ones where they were taken already.

A journal can have lost its end: its disk lied about the last syncs, or an older copy was put in its place.
Then it gives out numbers a second time. A start that can ask the tables goes on above what they know. One
that can't notes in the file `unasked` where its numbers begin, and a sink compares them before it reads:

- the tables know of none of them: the file goes;
- they do: the sink waits, as it would skip those blocks. The next start numbers them anew.

    00000007.db.renumbered   written beside each segment from there on
    unasked                  deleted when all are written, which is the moment from which they count
"""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from ingest.errors import JournalError
from ingest.journal.salvage import salvage
from ingest.journal.segment import delete, file_errors, segment_paths, write_segment
from storage.base import Claim
from storage.syncing import sync

_FILE: Final = "unasked"
_SUFFIX: Final = ".renumbered"


class Unasked(msgspec.Struct, frozen=True):
    """Where the numbers begin that were given out without the tables."""

    block: int
    record: int

    def is_taken(self, claim: Claim) -> bool:
        """Whether the tables know blocks or records by these numbers."""
        return claim.reached >= self.block or claim.next_record > self.record


def note_unasked(folder: Path, begin: Unasked) -> None:
    """Note it before the first of these numbers is given out; a note from before stays where it is lower."""
    before = _unasked(folder)
    if before is not None and before.block <= begin.block:
        return
    making = folder / f"{_FILE}.new"
    with making.open("wb") as file:
        file.write(msgspec.json.encode(begin))
        file.flush()
        os.fsync(file.fileno())
    making.rename(folder / _FILE)
    sync(folder)


def taken_numbers(folder: Path, claim: Claim) -> Unasked | None:
    """Where numbers begin that were given out twice, as far as the tables know; None where there are none."""
    begin = _unasked(folder)
    return begin if begin is not None and begin.is_taken(claim) else None


def require_free_numbers(folder: Path, claim: Claim) -> None:
    """See that no number was given out twice; from then on nobody has to ask again.

    Raises:
        JournalError: one was: these blocks would be passed over, and the journal would forget them.
    """
    with file_errors(folder):
        begin = taken_numbers(folder, claim)
        if begin is not None:
            raise JournalError(
                f"{folder}: has lost its end; its blocks from {begin.block} on have numbers that the tables"
                " know of others. Restart the server while it can reach the tables: it numbers them anew"
            )
        _forget_unasked(folder)


def renumber(folder: Path, journal: str, begin: Unasked, claim: Claim) -> None:
    """Number the blocks from there on anew, above all that the tables know; a recovery has to follow.

    They begin a segment, as every start begins one.
    """
    blocks = max(claim.reached + 1 - begin.block, 0)
    records = max(claim.next_record - begin.record, 0)
    for path in segment_paths(folder):
        found = list(salvage(path).values())
        if found and found[0].id >= begin.block:
            moved = [
                replace(each, id=each.id + blocks, first_record=each.first_record + records) for each in found
            ]
            write_segment(Path(f"{path}{_SUFFIX}"), journal, moved)
    sync(folder)
    _forget_unasked(folder)


def finish_renumbering(folder: Path) -> None:
    """Put renumbered segments in the place of those they were made from; or none, where not all were made."""
    for made in sorted(folder.glob(f"*{_SUFFIX}")):
        if _unasked(folder) is not None:
            made.unlink()
        else:
            delete(made.with_suffix(""))
            made.rename(made.with_suffix(""))
    sync(folder)


def _unasked(folder: Path) -> Unasked | None:
    try:
        return msgspec.json.decode((folder / _FILE).read_bytes(), type=Unasked)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise JournalError(f"{folder / _FILE}: does not say where unsure numbers begin: {error}") from None


def _forget_unasked(folder: Path) -> None:
    with suppress(FileNotFoundError):
        (folder / _FILE).unlink()
        sync(folder)
