"""The rejects of the Cassandra store, judged again while the server may be running.

Accepting one is a logged batch: all of it happens, or none. The writer's sums are not touched, as they
are the writer's alone: the number of the record goes into the sets `accepted` of its minute and its
connection, and whoever reads the books counts it on the other side. Adding a number to a set twice
changes nothing.
"""

from typing import Any, Final

from cassandra.query import BatchStatement, BatchType

from parser.block import from_seq
from parser.verdicts import NEVER_REPLAYED, Accepted
from storage.base import Rejected, minute_of
from storage.cassandra.books import connection_day
from storage.cassandra.connect import Connected
from storage.cassandra.days import days_of, nodes_of
from storage.cassandra.encoding import shard_of
from storage.cassandra.meaning import translated
from storage.cassandra.purge import read_purged
from storage.cassandra.rows import BUCKET, INSERT, LATEST
from storage.cassandra.schema import HOUR_MS, day_of, expiring
from storage.cassandra.tables import use
from storage.cassandra.times import to_ms
from storage.settings import CassandraSettings

_PAGE: Final = """SELECT seq, received_at, connection, peer, reason, field, device_id, place, raw
    FROM rejected_records WHERE node = ? AND day = ? AND seq > ? ORDER BY seq ASC LIMIT ?"""
_STAMP: Final = "SELECT writetime(raw), ttl(raw) FROM rejected_records WHERE node = ? AND day = ? AND seq = ?"
_FORGET: Final = "DELETE FROM rejected_records WHERE node = ? AND day = ? AND seq = ?"
_IN_LEDGER: Final = "UPDATE ledger SET accepted = accepted + ? WHERE node = ? AND day = ? AND minute = ?"
_IN_CONNECTION: Final = """UPDATE connections SET accepted = accepted + ?
    WHERE node = ? AND day = ? AND connection = ?"""

_NEVER: Final = frozenset(reason.value for reason in NEVER_REPLAYED)


class CassandraQuarantine:
    """A `Quarantine` on a cluster.

    Raises:
        StorageError: it can't be reached, or the tables are not ours.
    """

    def __init__(self, settings: CassandraSettings) -> None:
        self._settings = settings
        self._connected = Connected(settings)
        try:
            use(self._connected)
        except BaseException:
            self._connected.close()
            raise

    def page(self, after: int, limit: int) -> list[Rejected]:
        """Rejected records that may be judged again; see `Quarantine`."""
        first_node = from_seq(max(after, 0))[0]
        found: list[Rejected] = []
        nodes = [node for node in nodes_of(self._connected) if node >= first_node]
        for node, days in zip(nodes, days_of(self._connected, *nodes), strict=True):
            for day in reversed(days):
                found += self._page_of(node, day, after, limit - len(found))
                if len(found) == limit:
                    return found
        return found

    def accept(self, rejected: Rejected, record: Accepted) -> bool:
        """Move a reject to the readings; see `Quarantine`."""
        node, day = from_seq(rejected.seq)[0], day_of(rejected.received_at)
        known = self._rows(_STAMP, node, day, rejected.seq)
        purged = read_purged(self._connected, node).before
        if not known or (purged is not None and rejected.received_at < purged):
            return False  # what is purged does not count any more, on either side
        batch = BatchStatement(BatchType.LOGGED)
        for statement in self._statements(rejected, record, node, *known[0]):
            batch.add(statement)
        with translated(self._settings):
            self._connected.session.execute(batch)
        return True

    def close(self) -> None:
        """Let go of the cluster."""
        self._connected.close()

    def _page_of(self, node: int, day: int, after: int, limit: int) -> list[Rejected]:
        """Of one day, passing over those that are never replayed."""
        found: list[Rejected] = []
        while rows := self._rows(_PAGE, node, day, after, limit - len(found)):
            found += [Rejected(row[0], to_ms(row[1]), *row[2:]) for row in rows if row[4] not in _NEVER]
            after = rows[-1][0]
            if len(found) == limit:
                break
        return found

    def _statements(
        self, rejected: Rejected, record: Accepted, node: int, stamp_us: int, ttl: int | None
    ) -> list[Any]:
        bound, seq, at = self._connected.bound, rejected.seq, rejected.received_at
        number = from_seq(seq)[1]
        width = self._settings.bucket_hours * HOUR_MS
        bucket = at // width * width
        insert, expiry = expiring(INSERT, ttl)
        return [
            bound(_FORGET, node, day_of(at), seq),
            bound(insert, record.device_id, bucket, at, seq, record.values, stamp_us, *expiry),
            bound(BUCKET, record.device_id, bucket, stamp_us),
            bound(LATEST, shard_of(record.device_id), record.device_id, node, at, seq, record.values, number),
            bound(_IN_LEDGER, {seq}, node, day_of(at), minute_of(at)),
            bound(_IN_CONNECTION, {seq}, node, connection_day(rejected.connection), rejected.connection),
        ]

    def _rows(self, cql: str, *values: Any) -> list[tuple[Any, ...]]:
        (rows,) = self._connected.ask([self._connected.bound(cql, *values)])
        return rows
