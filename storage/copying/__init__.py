"""Growing out of the embedded database: everything in it moves to a cluster, and a server goes on there.

The copy can be stopped, killed or cut off anywhere and begun again, and never starts over. What makes that
safe:

- A row has the same key and the same write timestamp each time that it is copied. Copying it again changes
  nothing, and nothing that is copied is newer than what the next block of the journal writes.
- How far the readings have come stands in the keyspace itself, and only when the cluster can't forget them
  any more (`marks`).
- While it lasts, the nodes belong to the copy: a server that was started on half the rows is turned away.
  The cursor is handed over in the last step, together with the node (`holding`).
- What was copied is compared with the state that the embedded database was in at the beginning. If it has
  changed since, another pass copies what is new; the run after that says that there is nothing to do.

`source` reads the embedded database, `target` writes the tables of the cluster, `run` does it in order.
"""

from storage.copying.run import SETTLING, Copied, Step, Tell, copy_tables

__all__ = ["SETTLING", "Copied", "Step", "Tell", "copy_tables"]
