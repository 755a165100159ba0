"""Chance that can be looked up: every draw is a function of seed, device and record number.

A generator that is advanced gives other numbers to a machine when its neighbours are fewer, or come in
another order. Here each machine has a SplitMix64 stream of its own, and any place in it is computed
directly: output i of the stream that starts at k is mix(k + (i + 1) * GAMMA), vectorised over machines.
(Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.)
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Floats = NDArray[np.float64]

_GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
_MASK: Final = (1 << 64) - 1
_BELL: Final = 3**0.5 / 65536


def stream_keys(seed: int, purpose: int, devices: int) -> Words:
    """Where the streams of all devices start; other purposes have other streams.

    Args:
        seed: any integer; the low 64 bits count.
        purpose: tells apart what is drawn for.
        devices: how many.

    Returns:
        uint64[devices]
    """
    root = _mix(np.array([seed & _MASK], dtype=np.uint64) + np.uint64(purpose) * np.ones(1, np.uint64))
    return _mix(root + _GAMMA * np.arange(1, devices + 1, dtype=np.uint64))


def draw(keys: Words, numbers: NDArray[np.int64], channels: int) -> Words:
    """Random words for one record of each of these streams.

    Args:
        keys: uint64[n], one stream's start per row.
        numbers: int64[n], the record's number in that stream.
        channels: how many independent words each record gets.

    Returns:
        uint64[channels, n]
    """
    place = numbers.astype(np.uint64) * np.uint64(channels)
    index = place + np.arange(1, channels + 1, dtype=np.uint64)[:, None]
    return _mix(keys + index * _GAMMA)


def uniform(words: Words) -> Floats:
    """Evenly distributed over [0, 1); same shape as the words."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def bell(words: Words) -> Floats:
    """Mean 0, standard deviation 1, and never beyond 3.47: the sum of a word's four 16-bit quarters.

    Bounded on purpose: no value of a machine may stray into what another state looks like.

    Args:
        words: uint64[..., n], contiguous.
    """
    quarters = words.view(np.uint16).reshape(*words.shape, 4)
    total: Floats = quarters.sum(axis=-1, dtype=np.float64)
    return (total - 2 * 65535) * _BELL


def _mix(words: Words) -> Words:
    words = (words ^ (words >> np.uint64(30))) * _FIRST
    words = (words ^ (words >> np.uint64(27))) * _SECOND
    return words ^ (words >> np.uint64(31))
