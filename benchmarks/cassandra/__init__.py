"""What `headrace bench cassandra` measures: the way into Cassandra and out of it, against one node.

`target` is the node, `ready` our writer without sockets, `peers` the writers that others would use. Each
other module is one part: `writers` (and the shape of the row), `sockets` (and many devices), `latency`,
`reading`, `backlog`. `run` puts them together.
"""
