"""The store on a Cassandra cluster: written by one process for each node id, read by any number.

There are no transactions, so what one call to `write` does is made of three things:

- Every row is written under its own key with the stamp of its block as write timestamp. Writing it again
  changes nothing, and nothing older ever replaces something newer.
- A row of the books (`ledger`, `connections`) holds sums, and up to which record it counts. A block that it
  counts already is not counted again, wherever the writing begins anew.
- The cursor moves last, by compare-and-set, when all the rest was confirmed.

So after whatever went wrong in between, the same blocks are written again from the cursor on, and the
tables come out the same. Where a node was lost with what it had not synced yet, the cursor goes back to
the last block that nothing can take back any more, and the same happens from there.

`connect` opens a cluster and asks it, `schema` has the tables, `days` the directory of what nodes have,
`encoding` makes whole batches out of columns, `flight` keeps requests under way, `refusals` finds the row
that is refused, `writer`, `rows`, `books`, `rejects` and `purge` write, `claims` moves the cursor, `reader`
reads, `counting` holds the books against the rows.
"""
