"""A real Cassandra on this machine, for development, tests and benchmarks: no container, no installation.

    with Cluster(Path("data/cassandra")) as cluster:
        ...  # cluster.contact_points, cluster.port, cluster.nodes[0].kill()

It runs Cassandra's published jars on JDK 17, each node as a process of its own with its data, configuration
and log in a folder. What is running is known from the folder, not from the object: another process may stop
it, and a folder that was stopped or killed is started again with its data. Not meant for production: all
nodes share one machine.
"""

from devcluster.cluster import Cluster
from devcluster.errors import DevClusterError
from devcluster.node import Node
from devcluster.tools import missing

__all__ = ["Cluster", "DevClusterError", "Node", "missing"]
