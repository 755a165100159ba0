"""`headrace reconcile`: the rows of the tables against their books, and what still waits in the journal."""

from contextlib import suppress
from pathlib import Path

from headrace.config import Config
from ingest.errors import JournalError
from ingest.journal.segment import Segment, segment_paths
from parser.block import DamagedBlockError, from_seq
from storage.factory import open_books
from storage.reconcile import Books, Reconciliation, reconcile


def run(config: Config) -> Reconciliation:
    """Count everything that this configuration's tables hold; may run beside the server.

    Raises:
        StorageError: the tables can't be read.
    """
    books = open_books(config.storage)
    try:
        return reconcile(books, waiting=_waiting(config, books))
    finally:
        books.close()


def summary(result: Reconciliation) -> str:
    """The equation with its numbers, and the rows that were counted."""
    waiting = "unknown" if result.waiting is None else result.waiting
    return (
        f"received {result.received} = stored {result.stored} + rejected {result.rejected}"
        f" + unkept {result.unkept} + empty {result.empty} + set aside {result.set_aside}"
        f" + waiting {waiting}\n"
        f"rows: {result.readings} readings, {result.rejected_records} rejected_records"
    )


def _waiting(config: Config, books: Books) -> int | None:
    """Records of this node that are in the journal and in no table; None where no journal can be read."""
    end = _journal_end(Path(config.journal.path))
    if end is None:
        return None
    stored = [
        from_seq(minute.last_seq)[1] + 1
        for node in books.nodes()
        if node.node == config.ingest.node_id
        for minute in node.ledger
    ]
    return max(0, end - max(stored, default=0))


def _journal_end(folder: Path) -> int | None:
    """One more than the number of the last record in the journal."""
    for path in reversed(segment_paths(folder)):
        with suppress(JournalError, DamagedBlockError):  # trimmed meanwhile, not yet begun, or damaged
            segment = Segment(path)
            try:
                return segment.last().next_record
            finally:
                segment.close()
    return None
