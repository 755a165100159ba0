"""Readings on their way into the tables, with what is written beside each: newest rows and directories."""

from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from storage.cassandra.connect import Connected
from storage.cassandra.encoding import Batch, Batches, Encoder, starts_of
from storage.cassandra.expiry import countable_s
from storage.cassandra.flight import Flight
from storage.cassandra.refusals import Refusals
from storage.cassandra.replicas import Replicas
from storage.cassandra.schema import HOUR_MS, expiring
from storage.cassandra.tables import check_tables
from storage.rows import Rows

INSERT: Final = """INSERT INTO readings (device_id, bucket, received_at, seq, reading) VALUES (?, ?, ?, ?, ?)
    USING TIMESTAMP ?"""
LATEST: Final = """INSERT INTO latest_readings (shard, device_id, node, received_at, seq, reading)
    VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"""
BUCKET: Final = "INSERT INTO device_buckets (device_id, bucket) VALUES (?, ?) USING TIMESTAMP ?"


def open_encoder(connected: Connected, life_s: int | None) -> Encoder:
    """An encoder of statements that the cluster knows; of readings with a time to live, unless it is None."""
    return Encoder(
        connected.prepared(expiring(INSERT, life_s)[0]),
        connected.prepared(LATEST),
        connected.prepared(BUCKET),
        connected.settings.bucket_hours * HOUR_MS,
    )


class RowWriter:
    """Writes the readings of one node."""

    def __init__(self, connected: Connected, flight: Flight, life_s: int | None) -> None:
        """Rows expire `life_s` after they were written; never, where that is None or can't be counted."""
        self._connected = connected
        self._flight = flight
        self._life_s = life_s
        self._encoder = open_encoder(connected, life_s)
        self._batches = Batches(connected.settings.keyspace, Replicas(connected).sets)
        self._known_buckets: dict[str, int] = {}

    def forget(self) -> None:
        """Know nothing of the tables any more."""
        self._known_buckets.clear()

    def deliver(self, rows: Rows, node: int, others: Iterable[Any]) -> dict[int, str]:
        """Write rows, and at the same time those other statements.

        Returns:
            The places of rows that the cluster will never take, and why.

        Raises:
            StorageError: something else than readings is not taken, or a table is not as it was made.
        """
        refused = self._flight.deliver(chain(others, self.beside(rows, node), self._readings(rows)))
        if not refused:
            return {}
        check_tables(self._connected)
        refusals = Refusals(self._flight, self._connected.settings, len(rows.seqs))
        refusals.narrow(refused)
        return refusals.aside

    def beside(self, rows: Rows, node: int) -> Iterator[Batch]:
        """The newest row of each device, and the buckets that are new."""
        if len(rows.seqs):
            yield from self._batches.of(self._encoder.buckets(rows, self._new_buckets(rows)))
            yield from self._batches.of(self._encoder.latest(rows, node))

    def _readings(self, rows: Rows) -> Iterator[Batch]:
        if len(rows.seqs):
            ttl = (
                None if self._life_s is None else np.full(len(rows.seqs), countable_s(self._life_s), np.int32)
            )
            yield from self._batches.of(self._encoder.readings(rows, ttl))

    def _new_buckets(self, rows: Rows) -> NDArray[np.intp]:
        """Places of rows that begin a bucket of their device which nobody has noted yet.

        Stamps never descend, so each bucket's rows stand together.
        """
        buckets = self._encoder.bucket_of(rows.received_at)
        starts = starts_of(buckets).tolist()
        new = []
        for start, end in pairwise([*starts, len(buckets)]):
            place_of = np.full(len(rows.devices), -1, np.intp)
            place_of[rows.codes[start:end]] = np.arange(start, end)
            bucket = int(buckets[start])
            for device, place in zip(rows.devices, place_of.tolist(), strict=True):
                if place >= 0 and self._known_buckets.get(device) != bucket:
                    self._known_buckets[device] = bucket
                    new.append(place)
        return np.array(new, np.intp)
