"""The Cassandra that tests share: one real node for a run, started when the first test asks for it.

With `HEADRACE_CASSANDRA_CONTACT_POINTS` set (`host` or `host:port`, comma separated) that cluster is used
instead, and left running; the keyspaces that tests make there stay. Tests that stop, kill or pause nodes need
a cluster of their own.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import pytest

from devcluster import Cluster, Node, missing
from tests.support.needing import need

VARIABLE: Final = "HEADRACE_CASSANDRA_CONTACT_POINTS"
_PORT = 9042
_TIMEOUT_S = 300.0
"""The first test that asks also waits for the jars, which are fetched once, and for the start."""

READ_OVER: Final = 1_000
"""Tombstones and expired rows that one read may meet; the default is a hundred times as much."""

_SETTINGS: Final = {
    "commitlog_sync_period": "1000ms",
    "tombstone_warn_threshold": READ_OVER // 2,
    "tombstone_failure_threshold": READ_OVER,
}
"""What waits until nothing can be forgotten any more does not wait long; and what grows is noticed."""


@dataclass(frozen=True)
class Cassandra:
    """Where it is."""

    contact_points: list[str]
    port: int
    node: Node | None = None
    """Where it is a node of our own."""

    def keyspace(self) -> str:
        """The name of a keyspace that nobody has used."""
        return f"test_{uuid4().hex[:12]}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Any of these tests may be the first; one that says how long it takes is left alone."""
    for item in items:
        if item.get_closest_marker("cassandra") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_TIMEOUT_S))


@pytest.fixture(scope="session")
def cassandra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cassandra]:
    """A cluster for the whole run; skipped, or failed in CI, where what it needs is missing."""
    if points := os.environ.get(VARIABLE):
        yield given(points)
        return
    need(not missing(), missing())
    folder = tmp_path_factory.mktemp("cassandra")
    with Cluster(folder, port=0, heap_mib=1024, short_lived=True, settings=_SETTINGS) as cluster:
        yield Cassandra(cluster.contact_points, cluster.port, cluster.nodes[0])


def given(points: str) -> Cassandra:
    """The cluster that the variable names; its nodes share a port."""
    pairs = [point.strip().partition(":") for point in points.split(",")]
    ports = {int(port or _PORT) for _, _, port in pairs}
    if len(ports) > 1:
        pytest.fail(f"{VARIABLE}: the nodes of one cluster share a port")
    return Cassandra([host for host, _, _ in pairs], ports.pop())
