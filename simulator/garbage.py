"""Nonsense as machines send it, with the verdict that each kind must get.

A record is spoiled, never added: the device's good record is lost to it, its running number too. Which
records, and how, follows from seed, device and number, as all chance does here.
"""

import random
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final

import numpy as np

from simulator.fleet import Readings
from simulator.noise import draw, stream_keys, uniform
from simulator.wire import FIELD_END, MAX_DEVICE_ID_BYTES, MAX_RECORD_BYTES, RECORD_END, Verdict

_GARBAGE: Final = 3


class Kind(StrEnum):
    """What is wrong with a record."""

    FIELDS = "fields"
    """Fewer or more than six fields."""

    DEVICE_ID = "device_id"
    """No id, one that is too long, or one with a byte that is not printable."""

    NUMBER = "number"
    """Something that is no plain decimal number."""

    NAN = "nan"
    """Not a number, by its name."""

    INFINITE = "infinite"
    """Infinity, by its name."""

    OVERFLOW = "overflow"
    """A number too large for 64-bit floats."""

    CONTROL = "control"
    """A line break or NUL inside."""

    UTF8 = "utf8"
    """Bytes that are no text."""

    OVERSIZE = "oversize"
    """Longer than a record may be."""

    EMPTY = "empty"
    """Nothing at all; no reject, only counted."""

    CUT_OFF = "cut_off"
    """The connection was reset in the middle of it; not for spoiling."""

    @property
    def verdict(self) -> Verdict:
        """What a server has to make of it."""
        return Verdict.EMPTY if self is Kind.EMPTY else Verdict.INVALID


ALL_KINDS: Final = tuple(kind for kind in Kind if kind is not Kind.CUT_OFF)
"""Everything that a record on its own can be spoiled to."""

_NO_NUMBERS = [b"", b"12a", b"--1", b"1.2.3", b"0x1F", b"1_000", b"1e", b"- 1", b"NULL", b"\xd9\xa1"]
_NO_DEVICES = [b"", b"E" * (MAX_DEVICE_ID_BYTES + 1), b"E\x07001", b"E\x7f1", "Fräse".encode()]
_NO_TEXT = [b"\xff\xfe", b"\xc3\x28", b"\xe2\x82", b"\x80"]


class Spoiler:
    """Spoils a share of the records."""

    def __init__(self, devices: int, seed: int, share: float, kinds: Iterable[Kind] = ALL_KINDS) -> None:
        """Spoil nothing if `share` is 0, everything if it is 1; `kinds` come equally often."""
        self._keys = stream_keys(seed, _GARBAGE, devices)
        self._share = share
        self._kinds = tuple(kinds)

    def spoil(self, records: list[bytes], readings: Readings) -> dict[int, Kind]:
        """Replace the chosen ones of these records, in place.

        Returns:
            what was made of the records at these places in the list
        """
        if not self._share:
            return {}
        words = draw(self._keys[readings.device], readings.number, 2)
        spoiled: dict[int, Kind] = {}
        for place in np.flatnonzero(uniform(words[0]) < self._share).tolist():
            rng = random.Random(int(words[1, place]))  # noqa: S311  # repeatable, not secret
            kind = rng.choice(self._kinds)
            records[place] = spoil(records[place], kind, rng)
            spoiled[place] = kind
        return spoiled


def spoil(record: bytes, kind: Kind, rng: random.Random) -> bytes:
    """Make one kind of nonsense of a good record; both have their delimiter."""
    fields = record.removesuffix(RECORD_END).split(FIELD_END)
    return FIELD_END.join(_SPOIL[kind](fields, rng)) + RECORD_END


Fields = list[bytes]


def _fields(fields: Fields, rng: random.Random) -> Fields:
    return rng.choice([fields[:1], fields[:-1], fields[1:], [*fields, b""], fields * 2])


def _one_of(choices: list[bytes], *, device: bool = False) -> Callable[[Fields, random.Random], Fields]:
    """Put one of these in the place of the device's id, or of one of the numbers."""

    def replace(fields: Fields, rng: random.Random) -> Fields:
        place = 0 if device else rng.randrange(1, len(fields))
        return [*fields[:place], rng.choice(choices), *fields[place + 1 :]]

    return replace


def _inside(choices: list[bytes]) -> Callable[[Fields, random.Random], Fields]:
    """Put one of these into a field, at no edge of the record, where it would be white space."""

    def insert(fields: Fields, rng: random.Random) -> Fields:
        place = rng.randrange(len(fields))
        at = rng.randrange(1, len(fields[place])) if len(fields[place]) > 1 else 0
        field = fields[place][:at] + rng.choice(choices) + fields[place][at:]
        return [*fields[:place], field, *fields[place + 1 :]]

    return insert


def _oversize(fields: Fields, rng: random.Random) -> Fields:
    return [*fields, b"9" * rng.randrange(MAX_RECORD_BYTES + 1, 4 * MAX_RECORD_BYTES)]


_SPOIL: Final[dict[Kind, Callable[[Fields, random.Random], Fields]]] = {
    Kind.FIELDS: _fields,
    Kind.DEVICE_ID: _one_of(_NO_DEVICES, device=True),
    Kind.NUMBER: _one_of(_NO_NUMBERS),
    Kind.NAN: _one_of([b"nan", b"NaN", b"-nan"]),
    Kind.INFINITE: _one_of([b"inf", b"-inf", b"Infinity"]),
    Kind.OVERFLOW: _one_of([b"1e400", b"-1e400", b"9" * 310]),
    Kind.CONTROL: _inside([b"\n", b"\r", b"\r\n", b"\0"]),
    Kind.UTF8: _inside(_NO_TEXT),
    Kind.EMPTY: lambda _fields, _rng: [b""],
    Kind.OVERSIZE: _oversize,
}
