"""Whole batches out of columns: rows become the bytes of the native protocol in one pass of numpy.

Binding and encoding a row in Python costs 24 to 29 microseconds with the driver's batches; as rows of one
structured array it is below one (`headrace bench cassandra`). What makes that possible: a batch is a sequence
of statements, and a row's statement has one layout for all devices whose names are equally long
(native_protocol_v4.spec, 4.1.7):

    kind 1 | length and prepared id | number of values | for each value: length, big-endian bytes

The batch then travels through the driver like any other: `Batch` is a statement whose rows are encoded
already, and `Handler`, the driver's documented place for such a thing, writes the frame around them. A
test holds the bytes against those of the driver's own encoder for the same rows.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from cassandra.protocol import BatchMessage, ProtocolHandler
from cassandra.query import BatchStatement, BatchType, PreparedStatement
from numpy.typing import NDArray

from parser.block import RECORD_BITS
from storage.cassandra.schema import SHARDS, VALUES
from storage.rows import Rows, milliseconds

READING: Final = np.dtype(
    [
        part
        for place in range(VALUES.count("double"))
        for part in ((f"length{place}", ">i4"), (f"value{place}", ">f8"))
    ]
)
"""A frozen `reading`, as the protocol wants a user-defined type: each field with its length."""

RECORD_MASK: Final = (1 << RECORD_BITS) - 1

READINGS: Final = "readings"
LATEST_READINGS: Final = "latest_readings"
DEVICE_BUCKETS: Final = "device_buckets"

_PREPARED: Final = 1
_HEAD: Final = struct.Struct(">BH")
_BATCH_OPCODE: Final = 0x0D

ROWS_ALONE: Final = 500
"""Rows of one partition in a batch, at most. More gain nothing, and a repeated batch costs more."""

FEW_ROWS: Final = 100
"""A partition with fewer shares a batch with others."""

SLICE_ROWS: Final = 20_000
"""About so many are encoded at once: they stay in the processor's caches until they are sent."""

SHARED_BYTES: Final = 40_000
"""Of a batch of several partitions, as the server counts: it refuses 50 KiB."""

_ROW_BYTES: Final = 132
"""At most, as a node of 5.0 counts: 117 of `readings`, 129 where they expire; fewer of `device_buckets`."""

_LATEST_BYTES: Final = 170
"""The same of `latest_readings`, without the device's name, which is within the row there."""

_PARTITION_BYTES: Final = 180
"""Of each partition; a node counts 30."""


class EncodedRows:
    """The statements of a batch, as the protocol wants them."""

    __slots__ = ("number", "pieces")

    def __init__(self, pieces: list[memoryview], number: int) -> None:
        """An item of a piece is a row; all of a piece have one width."""
        self.pieces = pieces
        self.number = number

    def __len__(self) -> int:
        """How many statements: the driver asks."""
        return self.number


class Batch(BatchStatement):  # type: ignore[misc]  # the driver ships no types
    """An unlogged batch of rows that are encoded already."""

    def __init__(
        self, rows: EncodedRows, places: NDArray[np.intp], routing_key: bytes, keyspace: str, table: str
    ) -> None:
        """`places` says which rows of the `Rows` these are, as they go into that table."""
        super().__init__(BatchType.UNLOGGED)
        self._statements_and_parameters = rows
        self.places = places
        self.routing_key = routing_key
        self.keyspace = keyspace
        self.table = table
        self.is_idempotent = True

    def cut(self, parts: int) -> Iterator["Batch"]:
        """The same rows in so many batches; one for each row where there are fewer.

        They are the same bytes, and go where the whole went: its partitions have the same replicas.
        """
        bounds = np.linspace(0, len(self.places), min(parts, len(self.places)) + 1).astype(np.intp)
        for first, end in pairwise(bounds.tolist()):
            rows = EncodedRows(list(self._pieces(first, end)), end - first)
            yield Batch(rows, self.places[first:end], self.routing_key, self.keyspace, self.table)

    def _pieces(self, first: int, end: int) -> Iterator[memoryview]:
        """The bytes of the rows from one to before another."""
        for piece in self._statements_and_parameters.pieces:
            if first < len(piece) and end > 0:
                yield piece[max(first, 0) : end]
            first, end = first - len(piece), end - len(piece)


class Handler(ProtocolHandler):  # type: ignore[misc]  # the driver ships no types
    """Writes the frame of a `Batch`; everything else is the driver's."""

    @classmethod
    def encode_message(
        cls,
        msg: Any,
        stream_id: int,
        protocol_version: int,
        compressor: object,
        allow_beta_protocol_version: bool,  # noqa: FBT001  # the driver passes it by name
    ) -> bytes:
        """The bytes of a message, see the driver's `_ProtocolHandler`."""
        if not (isinstance(msg, BatchMessage) and isinstance(msg.queries, EncodedRows)):
            encoded: bytes = super().encode_message(
                msg, stream_id, protocol_version, compressor, allow_beta_protocol_version
            )
            return encoded
        rows = msg.queries
        size = 3 + sum(piece.nbytes for piece in rows.pieces) + 3
        head = struct.pack(
            ">BBhBIBH", protocol_version, 0, stream_id, _BATCH_OPCODE, size, msg.batch_type.value, rows.number
        )
        return b"".join([head, *rows.pieces, struct.pack(">HB", msg.consistency_level, 0)])


class Encoded(NamedTuple):
    """Rows of one table, encoded, those of each partition together."""

    table: str

    statements: NDArray[np.void]
    """Shape (n,)."""

    places: NDArray[np.intp]
    """Shape (n,): which of the `Rows` they are."""

    starts: NDArray[np.intp]
    """Shape (p,), ascending from 0: where each partition begins."""

    key: Callable[[int], bytes]
    """What decides where a partition lies, by its first row here."""

    row_bytes: int = _ROW_BYTES
    """What each row is against the server's limit, at most."""


def readings_key(device: str, bucket: int) -> bytes:
    """The key of a partition of `readings`, as tokens are made of it."""
    name = device.encode()
    return struct.pack(f">H{len(name)}sxHqx", len(name), name, 8, bucket)


def encode(insert: PreparedStatement, columns: Sequence[NDArray[Any]]) -> NDArray[np.void]:
    """Statements with these values, one for each row, ready for a batch.

    `columns` have the order of the statement's values and shape (n,): bytes of one width, or integers of the
    width that the column has; five numbers of shape (5, n) are a frozen `reading`.
    """
    head = _HEAD.pack(_PREPARED, len(insert.query_id)) + insert.query_id
    head += len(insert.column_metadata).to_bytes(2)
    fields: list[tuple[str, Any]] = [("head", f"V{len(head)}")]
    for number, column in enumerate(columns):
        kind = READING if column.ndim > 1 else column.dtype.newbyteorder(">")
        fields += [(f"length{number}", ">i4"), (f"value{number}", kind)]
    layout = np.dtype(fields)
    rows = np.empty(columns[0].shape[-1], layout)
    statements = rows.view(f"V{layout.itemsize}")
    statements[:] = _without_values(layout, head)
    for number, column in enumerate(columns):
        values = rows[f"value{number}"]
        if column.ndim == 1:
            values[:] = column
            continue
        for place, part in enumerate(column):
            values[f"value{place}"] = part
    return statements


def _without_values(layout: np.dtype[np.void], head: bytes) -> NDArray[np.void]:
    """A row of this layout with everything that is the same in all rows: its head, and what is how long."""
    row = np.zeros(1, layout)
    row["head"] = np.void(head)
    _note_lengths(row)
    return row.view(f"V{layout.itemsize}")


def _note_lengths(row: NDArray[np.void]) -> None:
    """Say in each field `length…` how long the `value…` is, also within values that have fields."""
    for name, (kind, *_) in (row.dtype.fields or {}).items():
        if name.startswith("value"):
            row[name.replace("value", "length")] = kind.itemsize
            _note_lengths(row[name])


class Encoder:
    """Encodes rows for the tables that get one for each reading or each device."""

    def __init__(
        self,
        readings: PreparedStatement,
        latest: PreparedStatement,
        buckets: PreparedStatement,
        bucket_ms: int,
    ) -> None:
        self._readings = readings
        self._latest = latest
        self._buckets = buckets
        self._bucket_ms = bucket_ms

    def bucket_of(self, received_at: NDArray[np.int64]) -> NDArray[np.int64]:
        """The beginning of the bucket of each time, in milliseconds."""
        return received_at // self._bucket_ms * self._bucket_ms

    def readings(self, rows: Rows, ttl: NDArray[np.int32] | None) -> Iterator[Encoded]:
        """All rows, by partition; within one in the order of their time.

        `ttl`, shape (n,), are the seconds that each row has to live; None where they live for ever.
        """
        buckets = self.bucket_of(rows.received_at)
        for names, places in _by_length(rows, np.arange(len(rows.codes))):
            order = places[_order(rows.codes[places], buckets[places])]
            bounds = np.append(starts_of(rows.codes[order], buckets[order]), len(order))
            for first, last in _slices(bounds):
                part = order[bounds[first] : bounds[last]]
                yield self._of_readings(rows, names, ttl, part, bounds[first:last] - bounds[first])

    def _of_readings(
        self,
        rows: Rows,
        names: NDArray[np.bytes_],
        ttl: NDArray[np.int32] | None,
        places: NDArray[np.intp],
        starts: NDArray[np.intp],
    ) -> Encoded:
        """Some of the rows, whose names have one length; their partitions begin at `starts` of `places`."""
        codes, stamps = rows.codes[places], rows.stamps[places]
        times = milliseconds(stamps)
        buckets = self.bucket_of(times)
        left = [] if ttl is None else [ttl[places]]
        key, values = [names[codes], buckets, times, rows.seqs[places]], rows.values[:, places]
        encoded = encode(self._readings, [*key, values, stamps, *left])
        devices = rows.devices
        return Encoded(
            READINGS,
            encoded,
            places,
            starts,
            lambda row: readings_key(devices[codes[row]], int(buckets[row])),
        )

    def latest(self, rows: Rows, node: int) -> Iterator[Encoded]:
        """The newest row of each device, by shard.

        Its write timestamp is its record's number: the row is its node's alone, and there a greater number is
        a newer record, so no two are ever equally old.
        """
        shards = np.array([shard_of(device) for device in rows.devices], np.int32)
        for names, places in _by_length(rows, rows.newest()):
            order = places[np.argsort(shards[rows.codes[places]], kind="stable")]
            of = shards[rows.codes[order]]
            nodes = np.full(len(order), node, np.int32)
            values, seqs = rows.values[:, order], rows.seqs[order]
            columns = [of, names[rows.codes[order]], nodes, milliseconds(rows.stamps[order]), seqs, values]
            encoded = encode(self._latest, [*columns, seqs & RECORD_MASK])
            size = _LATEST_BYTES + names.itemsize
            yield Encoded(LATEST_READINGS, encoded, order, starts_of(of), _key_of_shard(of), size)

    def buckets(self, rows: Rows, places: NDArray[np.intp]) -> Iterator[Encoded]:
        """The bucket of each of these rows, for the directory of their devices."""
        for names, order in _by_length(rows, places):
            codes, stamps = rows.codes[order], rows.stamps[order]
            buckets = self.bucket_of(milliseconds(stamps))
            encoded = encode(self._buckets, [names[codes], buckets, stamps])
            starts, key = np.arange(len(order)), _key_of_device(rows.devices, codes)
            yield Encoded(DEVICE_BUCKETS, encoded, order, starts, key)


def _key_of_shard(shards: NDArray[np.int32]) -> Callable[[int], bytes]:
    return lambda row: struct.pack(">i", shards[row])


def _key_of_device(devices: list[str], codes: NDArray[np.int32]) -> Callable[[int], bytes]:
    return lambda row: devices[codes[row]].encode()


@lru_cache(1 << 16)
def shard_of(device: str) -> int:
    """The partition of `latest_readings` that has a device; the same for ever and everywhere."""
    return zlib.crc32(device.encode()) % SHARDS


def _by_length(rows: Rows, places: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.bytes_], NDArray[np.intp]]]:
    """These rows by the length of their device's name; with all names cut or filled to that length."""
    of_devices = np.array([len(name) for name in rows.devices], np.int32)
    lengths = set(of_devices.tolist())
    for length in sorted(lengths):
        there = places if len(lengths) == 1 else places[of_devices[rows.codes[places]] == length]
        if len(there):
            yield np.array(rows.devices, f"S{length}"), there


def _order(codes: NDArray[np.int32], buckets: NDArray[np.int64]) -> NDArray[np.intp]:
    """The rows by device, then by bucket, else as they are.

    Nearly always all are in one bucket and the devices' numbers are small: numpy sorts 16 bits without
    comparing.
    """
    if len(buckets) and buckets.min() < buckets.max():
        return np.lexsort((buckets, codes))
    small = len(codes) and codes.max() <= np.iinfo(np.uint16).max
    return np.argsort(codes.astype(np.uint16) if small else codes, kind="stable")


def starts_of(*columns: NDArray[Any]) -> NDArray[np.intp]:
    """Where rows begin whose values differ from those of the row before."""
    differs = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return np.concatenate([[0], np.flatnonzero(differs) + 1])


def _slices(bounds: NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """Which partitions to encode together, from one to before another, so that about `SLICE_ROWS` are."""
    first, end = 0, len(bounds) - 1
    while first < end:
        last = min(end, int(np.searchsorted(bounds, bounds[first] + SLICE_ROWS)))
        yield first, last
        first = last


class _Shared:
    """A batch of small partitions that is not full yet."""

    def __init__(self, table: str, key: bytes) -> None:
        self.table = table
        self.key = key
        self.size = 0
        self.pieces: list[memoryview] = []
        self.places: list[NDArray[np.intp]] = []

    def add(self, encoded: Encoded, starts: NDArray[np.intp], ends: NDArray[np.intp]) -> None:
        """Put in these rows; neighbours in one piece."""
        apart = np.flatnonzero(starts[1:] != ends[:-1]) + 1
        for start, end in zip(starts[[0, *apart]].tolist(), ends[[*(apart - 1), -1]].tolist(), strict=True):
            self.pieces.append(_piece(encoded, start, end))
            self.places.append(encoded.places[start:end])


class Batches:
    """Puts partitions together: fat ones alone, small ones with others of the same replica set."""

    def __init__(
        self, keyspace: str, replica_sets: Callable[[], Callable[[bytes], tuple[str, ...]] | None]
    ) -> None:
        """`replica_sets` gives what finds the nodes of a partition by its key; see `Replicas.sets`."""
        self._keyspace = keyspace
        self._replica_sets = replica_sets

    def of(self, tables: Iterable[Encoded]) -> Iterator[Batch]:
        """The batches, each of one table; rows of one partition stand together in each."""
        open_batches: dict[tuple[str, ...], _Shared] = {}
        nodes_of = self._replica_sets()
        for encoded in tables:
            ends = np.append(encoded.starts[1:], len(encoded.places))
            used = (ends - encoded.starts) // ROWS_ALONE * ROWS_ALONE
            left = ends - encoded.starts - used
            used[left >= FEW_ROWS] += left[left >= FEW_ROWS]
            yield from self._alone(encoded, encoded.starts[used > 0], used[used > 0])
            rests = encoded.starts + used
            for replicas, members in _by_replicas(encoded, np.flatnonzero(rests < ends), nodes_of):
                yield from self._share(encoded, rests[members], ends[members], replicas, open_batches)
        yield from map(self._full, open_batches.values())

    def _alone(self, encoded: Encoded, starts: NDArray[np.intp], used: NDArray[np.intp]) -> Iterator[Batch]:
        """Batches of one partition each: of every one so many rows."""
        for first, rows in zip(starts.tolist(), used.tolist(), strict=True):
            key = encoded.key(first)
            for start in range(first, first + rows, ROWS_ALONE):
                end = min(start + ROWS_ALONE, first + rows)
                piece, places = _piece(encoded, start, end), encoded.places[start:end]
                yield self._batch(encoded.table, [piece], places, key)

    def _share(
        self,
        encoded: Encoded,
        starts: NDArray[np.intp],
        ends: NDArray[np.intp],
        replicas: tuple[str, ...],
        open_batches: dict[tuple[str, ...], _Shared],
    ) -> Iterator[Batch]:
        """Fill batches with these partitions; the last one stays open."""
        filled = np.cumsum(_PARTITION_BYTES + encoded.row_bytes * (ends - starts))
        first, before = 0, 0
        together = (encoded.table, *replicas)
        while first < len(filled):
            if together not in open_batches:
                open_batches[together] = _Shared(encoded.table, encoded.key(int(starts[first])))
            batch = open_batches[together]
            end = int(np.searchsorted(filled, before + SHARED_BYTES - batch.size, side="right"))
            if end == first:
                yield self._full(open_batches.pop(together))
                continue
            batch.add(encoded, starts[first:end], ends[first:end])
            batch.size += int(filled[end - 1]) - before
            first, before = end, int(filled[end - 1])

    def _full(self, shared: _Shared) -> Batch:
        return self._batch(shared.table, shared.pieces, np.concatenate(shared.places), shared.key)

    def _batch(self, table: str, pieces: list[memoryview], places: NDArray[np.intp], key: bytes) -> Batch:
        return Batch(EncodedRows(pieces, len(places)), places, key, self._keyspace, table)


def _piece(encoded: Encoded, start: int, end: int) -> memoryview:
    """The bytes of these rows."""
    return encoded.statements[start:end].data


def _by_replicas(
    encoded: Encoded, small: NDArray[np.intp], nodes_of: Callable[[bytes], tuple[str, ...]] | None
) -> Iterable[tuple[tuple[str, ...], NDArray[np.intp]]]:
    """These partitions by the nodes that hold them."""
    if nodes_of is None:
        return [((), small)]
    found: dict[tuple[str, ...], list[int]] = {}
    for place, start in zip(small.tolist(), encoded.starts[small].tolist(), strict=True):
        found.setdefault(nodes_of(encoded.key(start)), []).append(place)
    return [(replicas, np.array(places, np.intp)) for replicas, places in found.items()]
