"""The journal: every block is durable here before anything looks inside it.

It is a folder of SQLite databases, the segments, numbered in the order in which they were written. One is
being written to; when it is full the next one takes over. A segment is never changed after that and goes
as a whole, when every durable sink has passed its last block. So nothing is ever deleted row by row, the
write-ahead log never has to be restarted under load, and in the steady state a segment is gone before
anybody had to copy its log into its database: each byte is written once.

    lock               held with flock by the one server that writes here
    00000007.db        sealed, waits for a sink
    00000008.db (-wal) being written to
    00000009.db        made ahead, so that taking over costs the commits nothing
    unasked            from where on numbers were given out while the tables were away
    damaged/           whatever could not be read, kept as it was found

The parts: `segment` is one file, `committer` the thread that commits, `keeper` the thread that seals,
checkpoints, trims and makes files ahead, `reader` gives blocks in order to sinks (in any process),
`recovery` finds out at start where the last server stopped, `renumbering` mends numbers that were given out
twice, `owner` keeps the lock, `folders` finds journals,
and `journal` puts them together.
"""

from ingest.journal.committer import JournalState
from ingest.journal.folders import journals_under, worker_folder
from ingest.journal.journal import Journal, JournalStatistics
from ingest.journal.owner import held
from ingest.journal.reader import JournalReader
from ingest.journal.renumbering import require_free_numbers

__all__ = [
    "Journal",
    "JournalReader",
    "JournalState",
    "JournalStatistics",
    "held",
    "journals_under",
    "require_free_numbers",
    "worker_folder",
]
