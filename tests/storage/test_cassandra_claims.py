"""How many nodes may be away, and how long a confirmed row may be forgotten: by what the cluster says."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from storage.cassandra.claims import Claims, Place, as_seconds, copies_of
from storage.cassandra.connect import Connected
from storage.cassandra.tables import use
from storage.settings import CassandraSettings, RejectQuota
from tests.storage.stores import CassandraStore

SIMPLE = {"class": "SimpleStrategy", "replication_factor": "3"}
ONE_PLANT = {"class": "NetworkTopologyStrategy", "plant": "3"}
TWO_PLANTS = {**ONE_PLANT, "office": "3"}
MANY_ELSEWHERE = {"class": "NetworkTopologyStrategy", "plant": "1", "office": "5"}


@pytest.mark.parametrize(
    ("replication", "level", "copies"),
    [
        ({**ONE_PLANT, "plant": "1"}, "LOCAL_QUORUM", 1),
        (ONE_PLANT, "ONE", 1),
        (ONE_PLANT, "LOCAL_ONE", 1),
        (ONE_PLANT, "LOCAL_QUORUM", 2),
        (ONE_PLANT, "QUORUM", 2),
        (ONE_PLANT, "EACH_QUORUM", 2),
        (ONE_PLANT, "ALL", 3),
        (SIMPLE, "QUORUM", 2),
        (TWO_PLANTS, "LOCAL_QUORUM", 2),
        (TWO_PLANTS, "QUORUM", 1),
        (TWO_PLANTS, "ALL", 3),
        (MANY_ELSEWHERE, "QUORUM", 1),
    ],
)
def test_a_confirmed_row_is_at_least_on_so_many_nodes_of_our_datacenter(
    replication: dict[str, str], level: str, copies: int
) -> None:
    """Those of others may be the ones that have confirmed."""
    assert copies_of(replication, "plant", level) == copies


@pytest.mark.parametrize(
    ("shown", "seconds"),
    [("10000ms", 10), ("1500ms", 1.5), ("20s", 20), ("1m", 60), ("2h", 7_200), ("1d", 86_400), ("soon", 10)],
)
def test_a_period_is_understood_in_every_unit(shown: str, seconds: float) -> None:
    """Cassandra shows it as the operator wrote it; what can't be read is the default."""
    assert as_seconds(shown) == seconds


@pytest.fixture
def connected(tmp_path: Path, cassandra_settings: CassandraSettings) -> Iterator[Connected]:
    """Tables that nobody has written into."""
    store = CassandraStore(tmp_path, RejectQuota(), cassandra_settings)
    store.writer().close()
    with closing(Connected(store.settings)) as connected:
        yield use(connected)


def _moved(connected: Connected, now: Callable[[], float] = time.monotonic) -> Claims:
    """A cursor at the first block."""
    claims = Claims(connected, now=now)
    claims.claim(3, "journal", adopt=False)
    claims.move(None, Place(1, 20))
    return claims


@pytest.mark.cassandra
def test_nothing_is_there_for_good_while_a_node_that_nobody_has_heard_of_may_have_it(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others reach it, we never did: it may have confirmed rows, and forget them unseen."""
    now = 0.0
    claims = _moved(connected, lambda: now)
    now = 1_000.0
    members = connected.members()
    with monkeypatch.context() as patched:
        patched.setattr(connected, "members", lambda: members | {uuid4()})
        assert claims.durable() == 0
    assert claims.durable() == 1


@pytest.mark.cassandra
def test_who_only_looks_leaves_going_back_to_who_writes(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server claims its node before its sink does; the sink has to know how far the rows had come."""
    _moved(connected)
    restarted = {host: generation + 1 for host, generation in connected.generations().items()}
    monkeypatch.setattr(connected, "generations", lambda **_: restarted)
    for to_write, block in ((False, 1), (False, 1), (True, 0)):
        found = Claims(connected).claim(3, "journal", adopt=False, to_write=to_write)
        assert (found.cursor.block if found.cursor else 0, found.reached) == (block, 1)
