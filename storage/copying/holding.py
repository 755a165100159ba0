"""Who may write for a node while it is copied, and handing it over with its cursor.

All of it is compare-and-set on `nodes`, as for every writer (`storage.cassandra.claims`). While rows are
copied the node belongs to the copy, so no server begins on half of them. The cursor comes in the same step in
which the journal becomes the owner, as one that is durable: there is nothing to go back to.
"""

from typing import Any, Final, NamedTuple

from storage.cassandra.claims import compare_and_set
from storage.cassandra.connect import Connected, serial_consistency
from storage.cassandra.meaning import shown
from storage.copying.source import SourceNode
from storage.errors import CursorMovedError, NodeClaimedError

_READ: Final = "SELECT owner, journal, block FROM nodes WHERE node = ?"
_TAKE: Final = "UPDATE nodes SET owner = ? WHERE node = ? IF owner = ?"
_TAKE_BACK: Final = "UPDATE nodes SET owner = ? WHERE node = ? AND journal = ? IF owner = ? AND block = ?"
_PUT_CURSOR: Final = """UPDATE nodes SET block = ?, record = ?, durable_block = ?, durable_record = ?
    WHERE node = ? AND journal = ? IF owner = ?"""
_GIVE: Final = "UPDATE nodes SET owner = ?, next_record = ?, generations = ? WHERE node = ? IF owner = ?"
_GIVE_WITH_CURSOR: Final = """UPDATE nodes SET owner = ?, next_record = ?, generations = ?,
    block = ?, record = ?, durable_block = ?, durable_record = ?
    WHERE node = ? AND journal = ? IF owner = ?"""


class Held(NamedTuple):
    """Who has a node in the cluster, and how far its journals have come there."""

    owner: str | None
    cursors: dict[str, int]


def copying(journal: str) -> str:
    """The owner of a node while its rows are copied; a server that is turned away says it."""
    return f"{journal} (not all copied yet: run `headrace db copy` again)"


def block_of(node: SourceNode) -> int:
    """The block that a node's own journal has come to; 0 where it has written nothing."""
    return node.cursors.get(node.journal, 0)


class Holding:
    """The nodes of one copy."""

    def __init__(self, connected: Connected) -> None:
        self._connected = connected
        self._name = shown(connected.settings)

    def look(self, node: int) -> Held:
        """Who has the node now."""
        statement = self._connected.bound(_READ, node)
        statement.consistency_level = serial_consistency(self._connected.settings)
        (rows,) = self._connected.ask([statement])
        owner = rows[0][0] if rows else None
        return Held(owner, {journal: block for _, journal, block in rows if block is not None})

    def take(self, node: SourceNode, handed_over: int | None) -> None:
        """Make the node the copy's: a free one, or one that an earlier copy handed over at this block.

        Raises:
            NodeClaimedError: it belongs to another journal.
            CursorMovedError: a server has written there.
        """
        owner, cursors = self.look(node.node)
        ours, reached = copying(node.journal), cursors.get(node.journal, 0)
        if owner == ours:
            return
        if owner not in (None, node.journal):
            raise NodeClaimedError(
                f"{self._name}: node {node.node} belongs to journal {owner}, but to {node.journal} in the"
                " embedded database; copy into another storage.cassandra.keyspace"
            )
        if owner is not None and (reached != handed_over or reached > block_of(node)):
            raise CursorMovedError(
                f"{self._name}: a server has written for node {node.node}, up to block {reached}, and the"
                f" embedded database is at {block_of(node)}; that is never copied over. Go on there with"
                ' [storage] backend = "cassandra", or copy into another storage.cassandra.keyspace'
            )
        if reached:
            self._set(node.node, ours, _TAKE_BACK, ours, node.node, node.journal, owner, reached)
        else:
            self._set(node.node, ours, _TAKE, ours, node.node, owner)

    def hand_over(self, node: SourceNode) -> None:
        """Give the node to its journal, with all its cursors; nothing where the journal has it already."""
        journal, ours = node.journal, copying(node.journal)
        if self.look(node.node).owner == journal:
            return
        for other, block in node.cursors.items():
            if other != journal:
                place = (block, node.next_record)
                self._set(node.node, ours, _PUT_CURSOR, *place, *place, node.node, other, ours)
        known = (journal, node.next_record, self._connected.generations())
        if block_of(node):
            place = (block_of(node), node.next_record)
            self._set(node.node, journal, _GIVE_WITH_CURSOR, *known, *place, *place, node.node, journal, ours)
        else:
            self._set(node.node, journal, _GIVE, *known, node.node, ours)

    def _set(self, node: int, owner: str, cql: str, *values: Any) -> None:
        """Change the node, which is its owner's afterwards.

        Raises:
            NodeClaimedError: somebody else was quicker.
        """
        if compare_and_set(self._connected, cql, *values):
            return
        found = self.look(node).owner
        if found != owner:  # else an earlier try went through, although nobody heard of it
            raise NodeClaimedError(f"{self._name}: node {node} was claimed by {found} meanwhile")
