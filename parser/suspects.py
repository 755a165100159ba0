"""Which records of a text are not good at a glance.

A record is good at a glance if it has exactly six fields, and the five numbers are digits with at most
one point and at most one sign in front. That is stricter than a record has to be (exponents and spaces
make it a suspect) and never laxer but in two things, which show in what the reader returns: a number
can be too large, and a device's name anything but a line break. Everything here is array arithmetic over
the bytes, linear in them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parser.arrow import BYTE_ORDER_MARK
from parser.breaks import find_breaks
from parser.settings import FIELDS, Rules
from parser.verdicts import Reason

_LONGEST_NUMBER: Final = 80
"""Longer ones are suspects: so the weights of a field's bytes never sum up beyond a byte."""

_WEIGHTS: Final = bytes(0 if chr(b) in "0123456789" else 1 if chr(b) == "." else 3 for b in range(256))
"""Of each byte in a number: the sum over its bytes is 0 or 1 for a plain one, the number of points."""


@dataclass(frozen=True)
class Spans:
    """Where each record of a text stands."""

    text: bytes
    ends: NDArray[np.int64]
    """Shape (records,): the place of each record's delimiter."""

    @classmethod
    def of(cls, text: bytes, rules: Rules) -> "Spans":
        """The spans of a text in which each record is ended by its delimiter."""
        return cls(text, np.flatnonzero(np.frombuffer(text, np.uint8) == rules.delimiter[0]))

    @property
    def starts(self) -> NDArray[np.int64]:
        """Shape (records,): the place of each record's first byte."""
        return _behind(self.ends)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Shape (records,): bytes of each record without its delimiter."""
        return np.diff(self.ends, prepend=-1) - 1

    @cached_property
    def filled(self) -> NDArray[np.int32]:
        """The places, ascending, of the records that have any bytes at all."""
        return np.flatnonzero(self.lengths).astype(np.int32)

    def records(self, indexes: NDArray[np.integer], rules: Rules) -> Iterator[tuple[int, int, bytes]]:
        """These records: index, place and bytes.

        With white space before it one may be longer than a record can be; then it begins behind that.
        """
        bounds = zip(self.starts[indexes].tolist(), self.ends[indexes].tolist(), strict=True)
        for index, (start, end) in zip(indexes.tolist(), bounds, strict=True):
            raw = self.text[start:end]
            if len(raw) > rules.max_record_bytes:
                raw = raw.lstrip(rules.around_records)
            yield index, end - len(raw), raw

    def without(self, indexes: NDArray[np.int32]) -> bytes:
        """The text with these records and their delimiters cut out; `indexes` ascend."""
        view = memoryview(self.text)
        begins = [0, *(self.ends[indexes] + 1).tolist()]
        stops = [*self.starts[indexes].tolist(), len(self.text)]
        return b"".join([view[a:b] for a, b in zip(begins, stops, strict=True)])


def find_suspects(spans: Spans, rules: Rules, condemned: Mapping[int, Reason]) -> NDArray[np.int32]:
    """The places, ascending, of all records that are not good at a glance, and the condemned ones.

    Records without a byte are no suspects: there is nothing to judge.
    """
    data = np.frombuffer(spans.text, np.uint8)
    good = data[spans.starts] != BYTE_ORDER_MARK[0]
    good[np.searchsorted(spans.ends, find_breaks(spans.text, rules))] = False
    marks = np.flatnonzero((data == rules.delimiter[0]) | (data == rules.field_delimiter[0]))
    last = np.flatnonzero(data[marks] == rules.delimiter[0])
    good &= np.diff(last, prepend=-1) == len(FIELDS)
    device = rules.record.fields.index("device_id")
    numbers = [place - len(FIELDS) + 1 for place in range(len(FIELDS)) if place != device]
    plain = _plain_numbers(spans.text, data, marks)
    for place in numbers:
        good &= plain.take(last + place, mode="clip")
    good |= spans.lengths == 0
    good[list(condemned)] = False
    return np.flatnonzero(~good).astype(np.int32)


def _plain_numbers(text: bytes, data: NDArray[np.uint8], marks: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which fields, each ended by one of the marks, are plain numbers."""
    starts = _behind(marks)
    first = data[starts]
    signed = (first == ord("-")) | (first == ord("+"))
    weights = np.frombuffer(bytearray(text.translate(_WEIGHTS)), np.uint8)
    weights[starts[signed]] = 0
    weights[marks] = 0
    points = np.diff(np.cumsum(weights, dtype=np.uint8)[marks], prepend=np.uint8(0))
    lengths = marks - starts
    good: NDArray[np.bool_] = (points <= 1) & (lengths <= _LONGEST_NUMBER) & (lengths > points + signed)
    return good


def _behind(marks: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places where the spans begin that are ended by these marks."""
    starts = np.empty_like(marks)
    starts[:1] = 0
    starts[1:] = marks[:-1] + 1
    return starts
