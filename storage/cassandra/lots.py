"""Doing much a lot at a time, so that neither memory nor a step grows with it."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def lots(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in their order, so many at a time; the last lot may be smaller."""
    left = iter(items)
    while lot := list(islice(left, size)):
        yield lot
