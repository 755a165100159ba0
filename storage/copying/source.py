"""Reading everything out of the embedded database, page by page.

Each page is a read transaction of its own, so nobody who writes has to wait for a copy of hours. That the
pages belong together is seen from `SourceState`: every write of a server and every reject that is judged
again changes its fingerprint.
"""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from parser.block import to_seq
from parser.settings import VALUES
from storage.base import Connection, LedgerMinute, Reading, Rejected
from storage.cassandra.purge import PurgedSums
from storage.rows import Rows
from storage.sqlite.connect import open_for_reading, transaction

_Nodes = list[tuple[int, str, int]]
_Cursors = list[tuple[str, int]]

PAGE_ROWS: Final = 100_000
_SMALL_PAGE: Final = 5_000

_NODES: Final = "SELECT node, journal, next_record FROM nodes WHERE journal IS NOT NULL ORDER BY node"
_STATE: Final = ("SELECT * FROM nodes", "SELECT * FROM cursors", "SELECT * FROM purged")
_CURSORS: Final = "SELECT journal, block FROM cursors WHERE node = ?"
_UNTIL: Final = """SELECT coalesce(min(newest), 0)
    FROM (SELECT max(minute) AS newest FROM ledger GROUP BY node)"""
_STORED_BEFORE: Final = """SELECT (SELECT coalesce(sum(ledger_stored), 0) FROM purged)
    + (SELECT coalesce(sum(stored), 0) FROM ledger WHERE minute < ?)"""
_STORED_SINCE: Final = "SELECT coalesce(sum(stored), 0) FROM ledger WHERE minute >= ?"
_NEWEST: Final = """SELECT max(
        (SELECT coalesce(max(minute), 0) FROM ledger WHERE node = ?1),
        (SELECT coalesce(max(max(opened_at, coalesce(closed_at, 0))), 0) FROM connections WHERE node = ?1),
        (SELECT coalesce(max(received_at), 0) FROM latest_readings WHERE seq >= ?2 AND seq < ?3),
        coalesce((SELECT received_at FROM rejected_records WHERE seq >= ?2 AND seq < ?3
            ORDER BY seq DESC LIMIT 1), 0))"""

_PURGED: Final = """SELECT before, last_seq, ledger_stored, ledger_rejected, ledger_unkept, ledger_empty,
    connections_stored, connections_rejected, connections_unkept, connections_empty
    FROM purged WHERE node = ?"""
_OLD_MINUTES: Final = """SELECT coalesce(max(last_seq), -1), coalesce(sum(stored), 0),
        coalesce(sum(rejected), 0), coalesce(sum(unkept), 0), coalesce(sum(empty), 0)
    FROM ledger WHERE node = ? AND minute < ?"""
_OLD_CONNECTIONS: Final = """SELECT coalesce(sum(stored), 0),
        coalesce(sum(rejected), 0), coalesce(sum(unkept), 0), coalesce(sum(empty), 0)
    FROM connections WHERE node = ? AND closed_at < ?"""

_NEXT_DEVICE: Final = "SELECT min(device_id) FROM readings WHERE device_id > ?"
_READINGS: Final = f"""SELECT received_at, seq, {", ".join(VALUES)} FROM readings
    WHERE device_id = ? AND (received_at, seq) > (?, ?) ORDER BY received_at, seq LIMIT ?"""  # noqa: S608  # names
_ROW: Final = np.dtype([("received_at", "<i8"), ("seq", "<i8"), *((name, "<f8") for name in VALUES)])
_LATEST: Final = "SELECT * FROM latest_readings WHERE device_id > ? ORDER BY device_id LIMIT ?"
_REJECTS: Final = "SELECT * FROM rejected_records WHERE seq > ? ORDER BY seq LIMIT ?"
_CONNECTIONS: Final = """SELECT node, connection, opened_at, closed_at, why, peer, identity, bytes, stored,
        rejected, unkept, empty, unterminated FROM connections
    WHERE node = ? AND connection > ? ORDER BY connection LIMIT ?"""
_LEDGER: Final = "SELECT * FROM ledger WHERE node = ? AND minute > ? ORDER BY minute LIMIT ?"


class Place(NamedTuple):
    """A row of `readings`, by its key; copying goes on behind it."""

    device_id: str
    received_at: int
    seq: int


BEGINNING: Final = Place("", -1, -1)


class SourceNode(NamedTuple):
    """What the embedded database knows about a node."""

    node: int
    journal: str
    next_record: int
    cursors: dict[str, int]
    """The block that each journal's writer has come to."""

    newest: int
    """A time in ms to which its last block is not older."""

    purged: PurgedSums


class SourceState(NamedTuple):
    """The whole database, at one moment."""

    fingerprint: str
    """Another one, and something was written since."""

    nodes: list[SourceNode]
    until: int
    """What is written later was received at this time or after, in ms, as far as clocks can be trusted."""

    @property
    def newest(self) -> int:
        """When the newest of it all was received, in ms."""
        return max((node.newest for node in self.nodes), default=0)


class Page(NamedTuple):
    """Some readings."""

    rows: Rows
    last: Place


class Source:
    """The embedded database; used by one thread at a time.

    Raises:
        StorageError: it is not there, or can't be opened.
    """

    def __init__(self, path: Path, page_rows: int = PAGE_ROWS) -> None:
        self.path = path
        self._page_rows = page_rows
        self._connection = open_for_reading(path)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def state(self) -> SourceState:
        """Where it stands, all read at one moment."""
        with transaction(self._connection, self.path, "BEGIN"):
            rows = [self._connection.execute(sql).fetchall() for sql in _STATE]
            fingerprint = sha256(msgspec.json.encode(rows)).hexdigest()[:32]
            nodes = [self._node(*row) for row in cast(_Nodes, self._connection.execute(_NODES).fetchall())]
            return SourceState(fingerprint, nodes, self._connection.execute(_UNTIL).get)

    def stored_before(self, minute: int) -> int:
        """Readings of before this minute, purged ones included.

        While servers write and purge this stays as it is. If it changes, rows have appeared among the old
        ones: rejects that were judged again, or a node with another clock.
        """
        return self._number(_STORED_BEFORE, minute)

    def stored_since(self, minute: int) -> int:
        """Readings of this minute and later ones."""
        return self._number(_STORED_SINCE, minute)

    def count(self, table: str) -> int:
        """Rows of one of the small tables."""
        return self._number(f"SELECT count(*) FROM {table}")  # noqa: S608  # a name of ours

    def readings(self, since: int, after: Place) -> Iterator[Page]:
        """Readings received since then, in the order of their key, beginning behind `after`."""
        parts: list[tuple[str, NDArray[np.void]]] = []
        rows = 0
        for device, found in self._readings(since, after):
            parts.append((device, found))
            rows += len(found)
            if rows >= self._page_rows:
                yield _page(parts)
                parts, rows = [], 0
        if parts:
            yield _page(parts)

    def latest(self) -> Iterator[list[Reading]]:
        """Pages of `latest_readings`."""
        after = ""
        while page := [Reading(*row) for row in self._ask(_LATEST, after, _SMALL_PAGE)]:
            yield page
            after = page[-1].device_id

    def rejects(self) -> Iterator[list[Rejected]]:
        """Pages of `rejected_records`, by number."""
        after = -1
        while page := [Rejected(*row) for row in self._ask(_REJECTS, after, _SMALL_PAGE)]:
            yield page
            after = page[-1].seq

    def connections(self, node: int) -> Iterator[list[Connection]]:
        """Pages of a node's `connections`, by number."""
        after = -1
        while page := [Connection(*row) for row in self._ask(_CONNECTIONS, node, after, _SMALL_PAGE)]:
            yield page
            after = page[-1].connection

    def ledger(self, node: int) -> Iterator[list[LedgerMinute]]:
        """Pages of a node's `ledger`, by minute."""
        after = -1
        while page := [LedgerMinute(*row) for row in self._ask(_LEDGER, node, after, _SMALL_PAGE)]:
            yield page
            after = page[-1].minute

    def _readings(self, since: int, after: Place) -> Iterator[tuple[str, NDArray[np.void]]]:
        """Rows of one device after the other; several pieces where a device has many."""
        device: str | None = after.device_id
        begin = (after.received_at, after.seq)
        while device is not None:
            begin = max(begin, (since, -1))
            while found := self._ask(_READINGS, device, *begin, self._page_rows):
                yield device, np.fromiter(found, _ROW, len(found))
                begin = found[-1][:2]
            device, begin = self._ask(_NEXT_DEVICE, device)[0][0], (-1, -1)

    def _node(self, node: int, journal: str, next_record: int) -> SourceNode:
        execute = self._connection.execute
        cursors = dict(cast(_Cursors, execute(_CURSORS, (node,)).fetchall()))
        newest = execute(_NEWEST, (node, to_seq(node, 0), to_seq(node + 1, 0))).get
        return SourceNode(node, journal, next_record, cursors, newest, self._purged(node))

    def _purged(self, node: int) -> PurgedSums:
        """What was purged, and what is only waiting for it: in a cluster the books leave together."""
        row = self._connection.execute(_PURGED, (node,)).fetchone()
        if row is None:
            return PurgedSums(None, None, (0, 0, 0, 0), (0, 0, 0, 0))
        before, last_seq, *sums = row
        old_seq, *ledger = self._connection.execute(_OLD_MINUTES, (node, before)).get
        last_seq = max(-1 if last_seq is None else last_seq, old_seq)
        connections = self._connection.execute(_OLD_CONNECTIONS, (node, before)).get
        return PurgedSums(
            before,
            None if last_seq < 0 else last_seq,
            _added(sums[:4], ledger),
            _added(sums[4:], connections),
        )

    def _number(self, sql: str, *values: int) -> int:
        number: int = self._ask(sql, *values)[0][0]
        return number

    def _ask(self, sql: str, *values: int | str) -> list[Any]:
        """All rows of a question, in a transaction of its own."""
        with transaction(self._connection, self.path, "BEGIN"):
            return self._connection.execute(sql, values).fetchall()


def _page(parts: list[tuple[str, NDArray[np.void]]]) -> Page:
    devices = sorted({device for device, _ in parts})
    code = {device: place for place, device in enumerate(devices)}
    counts = [len(found) for _, found in parts]
    table = np.concatenate([found for _, found in parts])
    rows = Rows(
        devices,
        np.repeat(np.array([code[device] for device, _ in parts], np.int32), counts),
        table["received_at"] * 1000,
        table["seq"],
        np.stack([table[name] for name in VALUES]),
    )
    last = Place(parts[-1][0], int(table["received_at"][-1]), int(table["seq"][-1]))
    return Page(rows, last)


def _added(one: list[int], other: list[int]) -> tuple[int, int, int, int]:
    a, b, c, d = (gone + old for gone, old in zip(one, other, strict=True))
    return a, b, c, d
