"""Who sent what: the pairs of connection and device that occur in a block, and those that may not.

A pair is one number, so what is asked of the rows is asked once for each pair that occurs: a block has
tens of thousands of rows and, as a rule, as many pairs as machines that are heard in a tick.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from parser.block import Allowance, Block
from parser.columns import Columns, Reject
from parser.suspects import Spans
from parser.verdicts import Reason, Refused

_TABLE: Final = 1 << 20
"""Up to so many possible pairs a table of all of them is faster than sorting the rows."""


class Pairs(NamedTuple):
    """Connection and device of each row."""

    connections: list[int]
    """Those of the block, ascending."""

    devices: list[str]
    """Those of the columns."""

    of_rows: NDArray[np.int64]
    """Shape (n,): the place of the connection times the number of devices, plus that of the device."""

    @classmethod
    def of(cls, block: Block, columns: Columns) -> "Pairs":
        """The pairs of a block's rows."""
        connections, places = np.unique(block.chunks["connection"], return_inverse=True)
        ends = np.cumsum(block.chunks["records"], dtype=np.int64)
        of_rows = places[np.searchsorted(ends, columns.index, side="right")].astype(np.int64)
        pairs = of_rows * len(columns.devices) + columns.codes
        return cls(connections.tolist(), columns.devices, pairs)

    @property
    def occurring(self) -> NDArray[np.int64]:
        """Each pair that has a row, ascending."""
        size = len(self.connections) * len(self.devices)
        if size > _TABLE:
            return np.unique(self.of_rows)
        seen = np.zeros(size, np.bool_)
        seen[self.of_rows] = True
        return np.flatnonzero(seen)

    def by_connection(self) -> Iterator[tuple[int, list[str]]]:
        """Each connection of the block, and the devices that it sent for."""
        occurring, width = self.occurring, len(self.devices)
        bounds = np.searchsorted(occurring, width * np.arange(len(self.connections) + 1)).tolist()
        codes = (occurring % max(width, 1)).tolist()
        for connection, (first, last) in zip(self.connections, pairwise(bounds), strict=True):
            if last - first == width:
                yield connection, self.devices
            else:
                yield connection, [self.devices[code] for code in codes[first:last]]

    def named(self, pair: int) -> tuple[int, str]:
        """Connection and device of a pair."""
        connection, device = divmod(pair, len(self.devices))
        return self.connections[connection], self.devices[device]


def bind(block: Block, columns: Columns) -> Columns:
    """The columns without the rows of devices that their connections may not send for: these are rejects."""
    if block.allowed is None:
        return columns
    pairs, allowed = Pairs.of(block, columns), _by_connection(block.allowed)
    wrong = [pair for pair in pairs.occurring.tolist() if not _may(allowed, *pairs.named(pair))]
    if not wrong:
        return columns
    rows = np.flatnonzero(np.isin(pairs.of_rows, wrong))
    return columns.refuse(rows, _rejects(block, columns, rows))


def _by_connection(allowances: Iterable[Allowance]) -> dict[int, frozenset[str]]:
    found: dict[int, frozenset[str]] = {}
    for allowance in allowances:
        found.update(dict.fromkeys(allowance.connections, frozenset(allowance.devices)))
    return found


def _may(allowed: dict[int, frozenset[str]], connection: int, device: str) -> bool:
    return device in allowed.get(connection, ())


def _rejects(block: Block, columns: Columns, rows: NDArray[np.intp]) -> list[Reject]:
    spans = Spans.of(block.payload, block.rules)
    records = spans.records(columns.index[rows], block.rules)
    return [
        Reject(index, place, raw, Refused(Reason.WRONG_IDENTITY, "device_id", columns.devices[code]))
        for (index, place, raw), code in zip(records, columns.codes[rows].tolist(), strict=True)
    ]
