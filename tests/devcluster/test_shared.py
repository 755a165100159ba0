"""The cluster that all tests of a run share: the developer's own, where one is named."""

import pytest

from tests.support.cassandra import Cassandra, given


@pytest.mark.parametrize(
    ("points", "cluster"),
    [
        ("db", Cassandra(["db"], 9042)),
        ("10.0.0.1:9142, 10.0.0.2:9142", Cassandra(["10.0.0.1", "10.0.0.2"], 9142)),
    ],
)
def test_a_named_cluster_is_used(points: str, cluster: Cassandra) -> None:
    """Hosts with or without the port."""
    assert given(points) == cluster


def test_nodes_on_different_ports_are_not_one_cluster() -> None:
    """A driver has one port for all of them."""
    with pytest.raises(pytest.fail.Exception, match="share a port"):
        given("10.0.0.1:9142,10.0.0.2")


def test_each_caller_gets_a_keyspace_of_its_own() -> None:
    """On a cluster that outlives the run too."""
    cluster = Cassandra(["db"], 9042)
    assert len({cluster.keyspace() for _ in range(100)}) == 100
