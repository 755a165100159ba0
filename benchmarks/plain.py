"""The baseline of the parser: plain Python with the same checks, as fast as one regular expression makes it.

`parser.reference` is written to be obviously right; this is written to be fast, so that the vectorised
parser is not compared with a straw man.
"""

import re

_NUMBER = rb"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
_RECORD = re.compile(
    rb"[ \t\r\n\0]*([\x21-\x2b\x2d-\x7e](?:[\x20-\x2b\x2d-\x7e]{0,62}[\x21-\x2b\x2d-\x7e])?)[ \t]*,[ \t]*"
    + rb"[ \t]*,[ \t]*".join([_NUMBER] * 5)
    + rb"[ \t\r\n\0]*"
)
_INFINITE = float("inf")


def parse_plainly(payload: bytes) -> tuple[list[tuple[str, float, float, float, float, float]], int]:
    """Rows and the number of records that are none."""
    rows = []
    match = _RECORD.fullmatch
    records = payload.split(b"#")[:-1]
    for record in records:
        if len(record) <= 512 and (found := match(record)) is not None:
            device, a, b, c, d, e = found.groups()
            row = (device.decode(), float(a), float(b), float(c), float(d), float(e))
            if min(row[1:]) > -_INFINITE and max(row[1:]) < _INFINITE:
                rows.append(row)
    return rows, len(records) - len(rows)
