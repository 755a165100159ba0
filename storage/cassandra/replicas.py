"""Which nodes hold a partition: only partitions of the same nodes share a batch.

What counts is how the keyspace is replicated, not `replication_factor` of the configuration, which is for
making it. Nodes come and go, and keyspaces are altered, so what is known is asked anew after a minute. A
batch that was put together by what is no longer so is written all the same: its coordinator sends on what it
does not hold.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, cast

from storage.cassandra.connect import Connected

ReplicaSets = Callable[[bytes], tuple[str, ...]] | None
"""The nodes that hold a partition, by its key; None where the same nodes hold all partitions."""

_REPLICATION: Final = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = %s"
_REMEMBERED: Final = 50_000
_FOR_S: Final = 60.0


class Replicas:
    """The replica sets of a keyspace's partitions, as they were a minute ago at the most."""

    def __init__(self, connected: Connected, *, now: Callable[[], float] = time.monotonic) -> None:
        self._connected = connected
        self._now = now
        self._until = float("-inf")
        self._sets: ReplicaSets = None

    def sets(self) -> ReplicaSets:
        """What is known of them now.

        Raises:
            StorageError: the cluster doesn't say.
        """
        if self._now() >= self._until:
            hosts = Counter(host.datacenter for host in self._connected.session.cluster.metadata.all_hosts())
            everywhere = all_hold_all(replication_of(self._connected), hosts)
            self._sets = None if everywhere else lru_cache(_REMEMBERED)(self._of)
            self._until = self._now() + _FOR_S
        return self._sets

    def _of(self, key: bytes) -> tuple[str, ...]:
        metadata = self._connected.session.cluster.metadata
        hosts = metadata.get_replicas(self._connected.settings.keyspace, key)
        return tuple(sorted(str(host.endpoint) for host in hosts))


def replication_of(connected: Connected) -> dict[str, str]:
    """How the keyspace is replicated, as `system_schema` says: copies by datacenter, and the `class`."""
    (row,) = connected.execute(_REPLICATION, connected.settings.keyspace)
    return dict(cast(dict[str, str], row[0]))


def all_hold_all(replication: Mapping[str, str], hosts: Mapping[str, int]) -> bool:
    """Whether the same nodes hold every partition, by how many there are in each datacenter.

    Those of a datacenter without copies hold none of any.
    """
    anywhere = replication.get("replication_factor")
    if anywhere is not None:
        return sum(hosts.values()) <= int(anywhere)
    copies = {name: int(replication.get(name, 0)) for name in hosts}
    return all(copies[name] == 0 or copies[name] >= number for name, number in hosts.items())
