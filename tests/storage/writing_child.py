"""A process that writes blocks until it is killed: `python -m tests.storage.writing_child FILE`.

It goes on where the tables are, and prints each block's id once it is committed.
"""

import sys
from itertools import count
from pathlib import Path

from storage.sqlite.writer import SqliteTableWriter
from tests.storage.building import JOURNAL, NOON, Machinery, opened, record

ROWS = 500
REJECTS = 2


def main() -> None:
    """Write for ever."""
    writer = SqliteTableWriter(Path(sys.argv[1]))
    claim = writer.claim(3, JOURNAL, adopt=False)
    done = claim.cursor.block if claim.cursor else 0
    machinery = Machinery(record=claim.next_record, at=NOON + done * 1_000)
    machinery.next_id, machinery.cursor = done + 1, claim.cursor
    for number in count(done + 1):
        cursor = machinery.cursor
        sent = b"".join(record(f"E{place % 50:04d}") for place in range(ROWS)) + b"bad#" * REJECTS
        block = machinery.block([(number, sent)], events=(opened(number),), later_ms=1_000)
        writer.write(cursor, [block], JOURNAL)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
