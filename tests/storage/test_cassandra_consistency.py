"""Readings go with the configured consistency; what is read, added to and written again, with a majority."""

from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cassandra import ConsistencyLevel

from storage.base import MINUTE_MS
from storage.cassandra.encoding import Batch
from storage.settings import CassandraSettings, RejectQuota
from tests.storage.building import JOURNAL, NOON, STARTED, Machinery, opened, record
from tests.storage.stores import CassandraStore

pytestmark = pytest.mark.cassandra


@pytest.mark.parametrize(
    ("configured", "rows", "books"),
    [
        ("ONE", ConsistencyLevel.ONE, ConsistencyLevel.QUORUM),
        ("LOCAL_ONE", ConsistencyLevel.LOCAL_ONE, ConsistencyLevel.LOCAL_QUORUM),
        ("LOCAL_QUORUM", ConsistencyLevel.LOCAL_QUORUM, ConsistencyLevel.LOCAL_QUORUM),
        ("ALL", ConsistencyLevel.ALL, ConsistencyLevel.ALL),
    ],
)
def test_books_are_of_a_majority(
    tmp_path: Path,
    cassandra_settings: CassandraSettings,
    configured: str,
    *,
    rows: int,
    books: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A copy that has missed a sum would be added to, and written over the right one."""
    settings = msgspec.structs.replace(cassandra_settings, consistency=configured)
    store = CassandraStore(tmp_path, RejectQuota(), settings)
    found: set[tuple[bool, int]] = set()
    with closing(store.writer()) as writer:
        session = writer._connected.session
        execute = session.execute_async

        def noted(statement: Any, *values: Any, **options: Any) -> Any:
            future = execute(statement, *values, **options)
            found.add((isinstance(statement, Batch), future.message.consistency_level))
            return future

        monkeypatch.setattr(session, "execute_async", noted)
        writer.claim(3, JOURNAL, adopt=False)
        machinery = Machinery()
        sent = record("E0001") + b"bad#"
        writer.write(None, [machinery.block([(1, sent)], events=(STARTED, opened(1)))], JOURNAL)
        while writer.purge(NOON + MINUTE_MS):
            pass
    serial = {ConsistencyLevel.SERIAL, ConsistencyLevel.LOCAL_SERIAL}
    assert {(batch, level) for batch, level in found if level not in serial} == {(True, rows), (False, books)}
