"""Figures of something that runs, taken every few seconds until it is over."""

import time
from collections.abc import Callable, Mapping
from typing import Self

import msgspec


class Samples(msgspec.Struct, frozen=True):
    """What was seen, and when."""

    seconds: list[float]
    """Since the first."""

    values: dict[str, list[float]]
    """By name, as many as there are times."""

    @classmethod
    def until(
        cls,
        over: Callable[[], bool],
        measures: Mapping[str, Callable[[], float]],
        every_s: float,
        keep: Callable[[Self], None],
    ) -> Self:
        """Ask for each figure every so often, four times at least; `keep` gets each time all so far."""
        samples = cls([], {name: [] for name in measures})
        begun = time.monotonic()
        while not over() or len(samples.seconds) < 4:
            samples.seconds.append(time.monotonic() - begun)
            for name, measure in measures.items():
                samples.values[name].append(float(measure()))
            keep(samples)
            time.sleep(every_s)
        return samples
