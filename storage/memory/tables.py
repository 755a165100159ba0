"""The tables as dictionaries, and the few things that more than one side does with them."""

from msgspec.structs import replace

from parser.block import to_seq
from storage.base import UNKNOWN_PEER, Connection, Cursor, LedgerMinute, Reading, Rejected, minute_of


class MemoryTables:
    """The tables, as dictionaries by their keys."""

    def __init__(self) -> None:
        self.readings: dict[tuple[str, int, int], Reading] = {}
        self.latest: dict[str, Reading] = {}
        self.rejected: dict[int, Rejected] = {}
        self.connections: dict[tuple[int, int], Connection] = {}
        self.ledger: dict[tuple[int, int], LedgerMinute] = {}
        self.owners: dict[int, str] = {}
        self.next_records: dict[int, int] = {}
        self.cursors: dict[tuple[int, str], Cursor] = {}

    def store(self, reading: Reading) -> None:
        """Add a reading, and make it the newest of its device if it is."""
        self.readings[reading.device_id, reading.received_at, reading.seq] = reading
        newest = self.latest.get(reading.device_id, reading)
        if (reading.received_at, reading.seq) >= (newest.received_at, newest.seq):
            self.latest[reading.device_id] = reading

    def connection(self, node: int, connection: int, at: int) -> Connection:
        """The connection's row; a new one where its opening was in a damaged block."""
        new = Connection(node, connection, at, None, None, UNKNOWN_PEER, None, 0, 0, 0, 0, 0, 0)
        return self.connections.get((node, connection), new)

    def put(self, connection: Connection) -> None:
        """Add or replace a connection's row."""
        self.connections[connection.node, connection.connection] = connection

    def count(self, at: int, node: int, first_record: int, records: int, **counts: int) -> None:
        """Add records to the ledger."""
        self.next_records[node] = max(self.next_records.get(node, 0), first_record + records)
        if not records:
            return
        first, last = to_seq(node, first_record), to_seq(node, first_record + records - 1)
        new = LedgerMinute(node, minute_of(at), first, last, 0, 0, 0, 0, 0)
        row = self.ledger.get((node, minute_of(at)), new)
        sums = {name: getattr(row, name) + count for name, count in counts.items()}
        row = replace(row, first_seq=min(row.first_seq, first), last_seq=max(row.last_seq, last), **sums)
        self.ledger[node, minute_of(at)] = row
