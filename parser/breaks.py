"""Line breaks and NULs, which are no data around a record and make it a reject inside.

Machines that end each record with `#` and a new line are common, so their text is made plain in one go
rather than record by record. The work is linear in the bytes.
"""

import numpy as np
from numpy.typing import NDArray

from parser.settings import Rules


def find_breaks(text: bytes, rules: Rules) -> NDArray[np.intp]:
    """The places, ascending, of all line breaks and NULs; most texts hold none."""
    present = [byte for byte in rules.breaks if byte in text]
    data = np.frombuffer(text, np.uint8)
    if len(present) == 1:
        return np.flatnonzero(data == present[0])
    found = np.zeros(len(data) if present else 0, np.bool_)
    for byte in present:
        found |= data == byte
    return np.flatnonzero(found)


def without_breaks_at_edges(payload: bytes, rules: Rules) -> bytes:
    """The payload without the runs of breaks that begin or end a record; it must end with a delimiter."""
    places = find_breaks(payload, rules)
    if not places.size:
        return payload
    data = np.frombuffer(payload, np.uint8)
    begins = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    lengths = np.diff(begins, append=len(places))
    # Before the first byte stands, as numpy counts, the last: a delimiter, as it should be.
    before = data[places[begins] - 1]
    behind = data[places[begins + lengths - 1] + 1]
    at_edge = (before == rules.delimiter[0]) | (behind == rules.delimiter[0])
    if not at_edge.any():
        return payload
    keep = np.ones(len(data), np.bool_)
    keep[places[np.repeat(at_edge, lengths)]] = False
    return data[keep].tobytes()
