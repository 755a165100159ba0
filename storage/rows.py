"""Many blocks as one run of rows, which is what a store writes at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parser.parsed import ParsedBlock
from parser.settings import VALUES


def milliseconds(stamps: NDArray[np.int64]) -> NDArray[np.int64]:
    """The `received_at` of rows with these stamps."""
    return stamps // 1000


@dataclass(frozen=True, slots=True)
class Rows:
    """The readings of consecutive blocks, in their order. Shapes are given for n rows."""

    devices: list[str]
    """The names that occur, ascending."""

    codes: NDArray[np.int32]
    """Shape (n,): which of `devices` each row is of."""

    stamps: NDArray[np.int64]
    """Shape (n,): the stamp of each row's block, microseconds since 1970 UTC, never descending."""

    seqs: NDArray[np.int64]
    """Shape (n,), ascending within a node."""

    values: NDArray[np.float64]
    """Shape (5, n), in the order of `settings.VALUES`."""

    @property
    def received_at(self) -> NDArray[np.int64]:
        """Shape (n,), milliseconds since 1970 UTC, never descending."""
        return milliseconds(self.stamps)

    @classmethod
    def of(cls, blocks: Sequence[ParsedBlock]) -> "Rows":
        """The rows of these blocks."""
        if not blocks:
            none = np.empty(0, np.int64)
            return cls([], none.astype(np.int32), none, none, np.empty((len(VALUES), 0)))
        devices = sorted({name for parsed in blocks for name in parsed.columns.devices})
        code = {name: place for place, name in enumerate(devices)}
        return cls(
            devices,
            np.concatenate([_recode(parsed, code) for parsed in blocks]),
            np.repeat(
                np.array([parsed.block.stamp_us for parsed in blocks], np.int64),
                [len(parsed.seqs) for parsed in blocks],
            ),
            np.concatenate([parsed.seqs for parsed in blocks]),
            np.concatenate([parsed.columns.values for parsed in blocks], axis=1),
        )

    def take(self, places: NDArray[np.intp]) -> "Rows":
        """Some of the rows."""
        return Rows(
            self.devices, self.codes[places], self.stamps[places], self.seqs[places], self.values[:, places]
        )

    def newest(self) -> NDArray[np.intp]:
        """The place of the last row of each device that has one."""
        last = np.full(len(self.devices), -1, np.intp)
        last[self.codes] = np.arange(len(self.codes))
        return last[last >= 0]


def _recode(parsed: ParsedBlock, code: dict[str, int]) -> NDArray[np.int32]:
    table = np.array([code[name] for name in parsed.columns.devices], np.int32)
    return table[parsed.columns.codes]
