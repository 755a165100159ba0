"""`headrace serve --workers N`: several processes that take data on one port, and one that watches them.

    parent   pages, API, /readyz, /metrics, the order gateway; takes no data
    worker   a server as without workers, less the pages: listeners, journal, node id, sink

All listen on the same port (SO_REUSEPORT), and the kernel deals connections out among those that listen just
now. Each has a journal and a node id of its own, so nothing is shared but the tables, and what one does no
other feels. A worker that ends is started again on the same journal.

The parent starts each with its task on standard input; the end of that input is the end of the worker, in
order, as at SIGTERM. So workers don't survive their parent. On standard output they say what pages and probes
have to know. The parts: `plan` says who gets what, `messages` is what goes over the pipes, `process` is the
worker's side, `forwarding` its live view, `worker` watches over one, `figures` brings their metrics together,
`crew` is all of them, and `serve` wires it.
"""
