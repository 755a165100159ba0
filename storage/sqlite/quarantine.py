"""The rejects of the SQLite store, judged again while the server may be running."""

from pathlib import Path
from typing import Final

import apsw
import numpy as np

from parser.block import from_seq
from parser.verdicts import NEVER_REPLAYED, Accepted
from storage.base import Rejected, minute_of
from storage.rows import Rows
from storage.sqlite.connect import open_for_writing, transaction
from storage.sqlite.insert import forward_latest, insert_readings

_PAGE: Final = """SELECT seq, received_at, connection, peer, reason, field, device_id, place, raw
    FROM rejected_records
    WHERE seq > ? AND reason NOT IN (SELECT value FROM carray(?))
    ORDER BY seq LIMIT ?"""


class SqliteQuarantine:
    """A `Quarantine` on one database file.

    Raises:
        StorageError: the file can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = open_for_writing(path)

    def page(self, after: int, limit: int) -> list[Rejected]:
        """Rejected records that may be judged again; see `Quarantine`."""
        with transaction(self._connection, self._path, "BEGIN"):
            never = apsw.carray(tuple(reason.value for reason in NEVER_REPLAYED))
            return [Rejected(*row) for row in self._connection.execute(_PAGE, (after, never, limit))]

    def accept(self, rejected: Rejected, record: Accepted) -> bool:
        """Move a reject to the readings; see `Quarantine`."""
        with transaction(self._connection, self._path):
            self._connection.execute("DELETE FROM rejected_records WHERE seq = ?", (rejected.seq,))
            if not self._connection.changes():
                return False
            row = _one_row(rejected, record)
            insert_readings(self._connection, row)
            forward_latest(self._connection, row)
            self._correct(rejected)
            return True

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def _correct(self, rejected: Rejected) -> None:
        node, _ = from_seq(rejected.seq)
        execute = self._connection.execute
        execute(
            "UPDATE ledger SET rejected = rejected - 1, stored = stored + 1 WHERE node = ? AND minute = ?",
            (node, minute_of(rejected.received_at)),
        )
        execute(
            "UPDATE connections SET rejected = rejected - 1, stored = stored + 1"
            " WHERE connection = ? AND node = ?",
            (rejected.connection, node),
        )
        execute("UPDATE nodes SET kept_rejects = kept_rejects - 1 WHERE node = ?", (node,))


def _one_row(rejected: Rejected, record: Accepted) -> Rows:
    return Rows(
        [record.device_id],
        np.zeros(1, np.int32),
        np.array([rejected.received_at * 1000]),
        np.array([rejected.seq]),
        np.array([record.values]).T,
    )
