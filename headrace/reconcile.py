"""`headrace reconcile`: the rows of the tables against their books, and what still waits in the journal."""

from contextlib import suppress
from pathlib import Path

from headrace.config import Config
from ingest.errors import JournalError
from ingest.journal import journals_under
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
    """Records that are in our journals and in no table; None where there is no journal that can be read."""
    ends: dict[int, int] = {}
    for journal in journals_under(Path(config.journal.path)):
        end = _journal_end(journal.folder)
        if end is not None:
            ends[journal.node] = max(end, ends.get(journal.node, 0))
    if not ends:
        return None
    known = {node.node: node.ledger for node in books.nodes()}
    stored = {
        node: max((from_seq(minute.last_seq)[1] + 1 for minute in known.get(node, [])), default=0)
        for node in ends
    }
    return sum(max(0, end - stored[node]) for node, end in ends.items())


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
