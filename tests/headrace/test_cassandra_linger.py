"""Rows on their way to a cluster wait for others, so that few requests carry them."""

import socket
import time
from typing import Final

import pytest

from storage.settings import CassandraSettings
from tests.faults.cassandra_oracle import on_cassandra
from tests.faults.harness import Server
from tests.faults.sender import deliver, record
from tests.support.cassandra import Cassandra

_REQUESTS: Final = 'headrace_store_requests_total{outcome="confirmed",sink="tables"}'
_RECORDS: Final = 40
_APART_S: Final = 0.05


@pytest.mark.cassandra
def test_rows_wait_for_others(server: Server, cassandra: Cassandra) -> None:
    """Forty records within two seconds take fewer requests than records; each alone would take four."""
    cluster = CassandraSettings(
        contact_points=tuple(cassandra.contact_points),
        port=cassandra.port,
        keyspace=cassandra.keyspace(),
        linger_ms=1000,
    )
    server.configure(on_cassandra(cluster))
    server.start(seconds=60)
    deliver(server.ack_port, record("E1", 0), records=1)
    server.wait_drained()
    before = server.metric(_REQUESTS)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as machine:
        for number in range(1, _RECORDS):
            machine.sendall(record("E1", number))
            time.sleep(_APART_S)
    server.wait_drained()
    assert 0 < server.metric(_REQUESTS) - before < _RECORDS
    assert server.stop() == 0
