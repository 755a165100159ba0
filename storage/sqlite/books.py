"""Counting the rows of the SQLite tables without ever holding a read transaction for long.

Rows are counted device by device and hour by hour, a transaction each; the write-ahead log can be emptied
between any two.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from parser.block import to_seq
from storage.base import MINUTE_MS, LedgerMinute
from storage.reconcile import MinuteBooks, NodeBooks, Sums
from storage.sqlite.connect import open_for_reading, transaction

_Nodes = list[tuple[int, int, int | None, int, int, int, int]]

_HOUR_MS: Final = 60 * MINUTE_MS
_REJECTS: Final = 20_000
_END_OF_TIME: Final = (1 << 63) - 1

_NODES: Final = """SELECT node, coalesce(before, 0), last_seq,
        coalesce(connections_stored - ledger_stored, 0),
        coalesce(connections_rejected - ledger_rejected, 0),
        coalesce(connections_unkept - ledger_unkept, 0),
        coalesce(connections_empty - ledger_empty, 0)
    FROM nodes LEFT JOIN purged USING (node) ORDER BY node"""

_CONNECTIONS: Final = """SELECT coalesce(sum(stored), 0), coalesce(sum(rejected), 0),
        coalesce(sum(unkept), 0), coalesce(sum(empty), 0) FROM connections WHERE node = ?"""

_LEDGER: Final = "SELECT * FROM ledger WHERE node = ? AND minute >= ? AND minute <= ? ORDER BY minute"

_READINGS: Final = """SELECT received_at / 60000 * 60000, count(*) FROM readings
    WHERE device_id = ? AND received_at >= ? AND received_at < ? AND seq >= ? AND seq <= ?
    GROUP BY 1"""

_NEXT: Final = "SELECT min(received_at) FROM readings WHERE device_id = ? AND received_at >= ?"

_REJECTED: Final = """SELECT seq, received_at FROM rejected_records
    WHERE seq >= ? AND seq <= ? ORDER BY seq LIMIT ?"""

_MINUTE_READINGS: Final = """SELECT count(*) FROM latest_readings JOIN readings USING (device_id)
    WHERE readings.received_at >= ? AND readings.received_at < ?
        AND readings.seq >= ? AND readings.seq < ?"""

_MINUTE_REJECTED: Final = """SELECT count(*) FROM rejected_records
    WHERE received_at >= ? AND received_at < ? AND seq >= ? AND seq < ?"""


class SqliteBooks:
    """The `Books` of one database file.

    Raises:
        StorageError: the file can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = open_for_reading(path)

    def nodes(self) -> list[NodeBooks]:
        """The books of every node, read at one moment; see `Books`."""
        with transaction(self._connection, self._path, "BEGIN"):
            nodes = cast(_Nodes, self._connection.execute(_NODES).fetchall())
            return [self._node(*node) for node in nodes]

    def readings(self, node: int, since: int, last_seq: int) -> Mapping[int, int]:
        """Rows of `readings` by minute; see `Books`."""
        found: Counter[int] = Counter()
        for device in self._devices():
            start = self._next(device, since)
            while start is not None:
                question = (device, start, start + _HOUR_MS, to_seq(node, 0), last_seq)
                with transaction(self._connection, self._path, "BEGIN"):
                    found.update(dict(self._connection.execute(_READINGS, question)))
                start = self._next(device, start + _HOUR_MS)
        return found

    def rejects(self, node: int, since: int, last_seq: int) -> Mapping[int, int]:
        """Rows of `rejected_records` by minute; see `Books`."""
        found: Counter[int] = Counter()
        behind = to_seq(node, 0)
        while page := self._rejected(behind, last_seq):
            found.update(at - at % MINUTE_MS for _, at in page if at >= since)
            behind = page[-1][0] + 1
        return found

    def minute(self, node: int, minute: int) -> MinuteBooks | None:
        """All about one minute, read at one moment; see `Books`."""
        bounds = (minute, minute + MINUTE_MS, to_seq(node, 0), to_seq(node + 1, 0))
        execute = self._connection.execute
        with transaction(self._connection, self._path, "BEGIN"):
            if minute < (execute("SELECT max(before) FROM purged").get or 0):
                return None
            ledger = self._ledger(node, minute, minute)
            return MinuteBooks(
                ledger[0] if ledger else None,
                execute(_MINUTE_READINGS, bounds).get,
                execute(_MINUTE_REJECTED, bounds).get,
            )

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def _node(self, node: int, before: int, last_seq: int | None, *purged: int) -> NodeBooks:
        sums = self._connection.execute(_CONNECTIONS, (node,)).get
        return NodeBooks(
            node,
            self._ledger(node),
            Sums(*(kept + gone for kept, gone in zip(sums, purged, strict=True))),
            before,
            last_seq,
        )

    def _ledger(self, node: int, first: int = 0, last: int = _END_OF_TIME) -> list[LedgerMinute]:
        rows = self._connection.execute(_LEDGER, (node, first, last))
        return [LedgerMinute(*row) for row in rows]

    def _devices(self) -> list[str]:
        with transaction(self._connection, self._path, "BEGIN"):
            names = self._connection.execute("SELECT device_id FROM latest_readings ORDER BY device_id")
            return [name for (name,) in names]

    def _next(self, device: str, at: int) -> int | None:
        """When the device's first row from that time on was received."""
        with transaction(self._connection, self._path, "BEGIN"):
            found: int | None = self._connection.execute(_NEXT, (device, at)).get
            return found

    def _rejected(self, first_seq: int, last_seq: int) -> list[tuple[int, int]]:
        with transaction(self._connection, self._path, "BEGIN"):
            page = self._connection.execute(_REJECTED, (first_seq, last_seq, _REJECTS)).fetchall()
            return cast(list[tuple[int, int]], page)
