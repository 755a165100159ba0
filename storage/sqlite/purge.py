"""Deleting what is old, in steps small enough that no write waits long for one.

The order is what keeps the books checkable at every step: rejects and readings before the ledger minute
that counts them, rejects before the connection that they came from. Sums of deleted ledger minutes and
connections go to `purged`, and `purged.before` rises first, so that a reconcile running beside it knows
which minutes are no longer whole.
"""

from collections.abc import Callable
from typing import Final, cast

import apsw

from parser.block import to_seq

_ROWS: Final = 5_000
_HIGHEST_SEQ: Final = (1 << 63) - 1

_RAISE: Final = """INSERT INTO purged (node, before) SELECT node, ? FROM nodes WHERE true
    ON CONFLICT (node) DO UPDATE SET before = max(before, excluded.before)"""

_OLD_REJECTS: Final = """DELETE FROM rejected_records WHERE seq IN (
        SELECT seq FROM (
            SELECT seq, received_at FROM rejected_records WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT ?
        ) WHERE received_at < ?)"""

_OLD_DEVICE: Final = """SELECT device_id FROM latest_readings WHERE device_id >= ? AND EXISTS (
        SELECT 1 FROM readings WHERE device_id = latest_readings.device_id AND received_at < ?)
    ORDER BY device_id LIMIT 1"""

_LAST_OF_STEP: Final = """SELECT received_at, seq FROM readings WHERE device_id = ? AND received_at < ?
    ORDER BY received_at, seq LIMIT 1 OFFSET ?"""

_OLD_LATEST: Final = """DELETE FROM latest_readings WHERE device_id IN (
        SELECT device_id FROM latest_readings WHERE received_at < ? LIMIT ?)"""

_OLD_CONNECTIONS: Final = """DELETE FROM connections WHERE (connection, node) IN (
        SELECT connection, node FROM connections WHERE closed_at < ? ORDER BY closed_at LIMIT ?)
    RETURNING stored, rejected, unkept, empty, node"""

_ADD_CONNECTION: Final = """UPDATE purged SET
        connections_stored = connections_stored + ?,
        connections_rejected = connections_rejected + ?,
        connections_unkept = connections_unkept + ?,
        connections_empty = connections_empty + ?
    WHERE node = ?"""

_OLD_MINUTES: Final = """DELETE FROM ledger WHERE (node, minute) IN (
        SELECT node, minute FROM nodes JOIN ledger USING (node) WHERE minute < ? LIMIT ?)
    RETURNING last_seq, stored, rejected, unkept, empty, node"""

_ADD_MINUTE: Final = """UPDATE purged SET
        last_seq = max(coalesce(last_seq, 0), ?),
        ledger_stored = ledger_stored + ?,
        ledger_rejected = ledger_rejected + ?,
        ledger_unkept = ledger_unkept + ?,
        ledger_empty = ledger_empty + ?
    WHERE node = ?"""


class Purge:
    """One pass over the tables, step by step; each step is a transaction of the caller's."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._before = 0
        self._device = ""

    def step(self, before: int) -> int:
        """Delete some rows received before this beginning of a minute; 0 when none is left."""
        if before != self._before:
            self._before, self._device = before, ""
        self._connection.execute(_RAISE, (before,))
        steps: tuple[Callable[[], int], ...] = (
            self._rejects,
            self._readings,
            self._latest,
            self._connections,
            self._minutes,
        )
        return next((deleted for step in steps if (deleted := step())), 0)

    def _rejects(self) -> int:
        deleted = 0
        for node in self._nodes():
            bounds = (to_seq(node, 0), to_seq(node + 1, 0), _ROWS, self._before)
            self._connection.execute(_OLD_REJECTS, bounds)
            gone = self._connection.changes()
            self._connection.execute(
                "UPDATE nodes SET kept_rejects = kept_rejects - ? WHERE node = ?", (gone, node)
            )
            deleted += gone
        return deleted

    def _readings(self) -> int:
        deleted = 0
        while deleted < _ROWS:
            device = self._connection.execute(_OLD_DEVICE, (self._device, self._before)).get
            if device is None:
                break
            self._device = device
            deleted += self._readings_of(device, _ROWS - deleted)
        return deleted

    def _readings_of(self, device: str, limit: int) -> int:
        last = self._connection.execute(_LAST_OF_STEP, (device, self._before, limit - 1)).get
        self._connection.execute(
            "DELETE FROM readings WHERE device_id = ? AND (received_at, seq) <= (?, ?)",
            (device, *(last or (self._before - 1, _HIGHEST_SEQ))),
        )
        return self._connection.changes()

    def _latest(self) -> int:
        self._connection.execute(_OLD_LATEST, (self._before, _ROWS))
        return self._connection.changes()

    def _connections(self) -> int:
        gone = self._connection.execute(_OLD_CONNECTIONS, (self._before, _ROWS)).fetchall()
        self._connection.executemany(_ADD_CONNECTION, gone)
        return len(gone)

    def _minutes(self) -> int:
        gone = self._connection.execute(_OLD_MINUTES, (self._before, _ROWS)).fetchall()
        self._connection.executemany(_ADD_MINUTE, gone)
        return len(gone)

    def _nodes(self) -> list[int]:
        return [cast(int, node) for (node,) in self._connection.execute("SELECT node FROM nodes")]
