"""One input is a stream, how it is read and how it is cut; both parsers must agree on it.

Layout of an input, so that a fuzzer that changes a byte changes one thing:

    0  delimiter     1  field delimiter   2  order of the fields   3  limits
    4  longest record   5  how the stream ends   6  number of cuts      7  how often the stream comes
    then two bytes for each cut: where; and the stream

The stream is framed whole and cut. One block carries both, by turns, and each record of either must be what
the plain parser says of the stream; then the two are read as two blocks together.
"""

from typing import Final, NamedTuple

from parser.framing import Ending
from parser.parsed import ParsedBlock
from parser.settings import FIELDS, RecordSettings, Rules
from tests.parser import oracle
from tests.parser.strategies import (
    AROUND,
    ENDS_OF_STREAM,
    FIELD_DELIMITERS,
    GARBAGE,
    GOOD_DEVICES,
    ODD_DEVICES,
    ODD_NUMBERS,
    PLAIN_NUMBERS,
    RECORD_DELIMITERS,
    WRONG_NUMBERS,
    cut,
)

LONGEST: Final = 4096

_HEAD_BYTES: Final = 8
_MOST_CUTS: Final = 8
_LONGEST_RECORDS: Final = (512, 512, 1, 4, 12, 13, 25, 40, 64, 2000)
_LIMITS: Final[tuple[dict[str, tuple[float, float]], ...]] = (
    {},
    {"power_kw": (0.0, 100.0)},
    {"voltage_v": (7.0, 7.0), "coolant_flow_lpm": (float("-inf"), 1e4)},
    {"spindle_speed_rpm": (-1.5, float("inf")), "power_kw": (0.0, 0.0)},
)


class Case(NamedTuple):
    """What an input stands for."""

    rules: Rules
    ending: Ending
    places: list[int]
    stream: bytes


def dictionary() -> list[bytes]:
    """Tokens worth putting into an input."""
    tokens = [*ODD_NUMBERS, *WRONG_NUMBERS, *PLAIN_NUMBERS, *GOOD_DEVICES, *ODD_DEVICES, *AROUND, *GARBAGE]
    return [token for token in dict.fromkeys(tokens) if 0 < len(token) <= 64] + [b"E1,1,2,3,4,5#"]


def decode(data: bytes) -> Case:
    """Read an input; whatever is missing is 0."""
    head = data[:_HEAD_BYTES].ljust(_HEAD_BYTES, b"\0")
    rest = data[_HEAD_BYTES:]
    cuts = head[6] % (_MOST_CUTS + 1)
    places = [int.from_bytes(rest[2 * number : 2 * number + 2]) for number in range(cuts)]
    ending = ENDS_OF_STREAM[head[5] % len(ENDS_OF_STREAM)]
    times = 1 << max(head[7] % 16 - 8, 0)
    return Case(_rules(head), ending, places, rest[2 * cuts :] * times)


def _rules(head: bytes) -> Rules:
    delimiter = RECORD_DELIMITERS[head[0] % len(RECORD_DELIMITERS)]
    others = [byte for byte in FIELD_DELIMITERS if byte != delimiter]
    turn = head[2] % len(FIELDS)
    order = FIELDS[turn:] + FIELDS[:turn]
    record = RecordSettings(
        delimiter=delimiter,
        field_delimiter=others[head[1] % len(others)],
        fields=order if head[2] < 128 else order[::-1],
        limits=_LIMITS[head[3] % len(_LIMITS)],
    )
    return Rules(record=record, max_record_bytes=_LONGEST_RECORDS[head[4] % len(_LONGEST_RECORDS)])


def run(data: bytes) -> int:
    """Try an input; how many bytes of a stream it gave to the parser. Raises AssertionError: they differ."""
    rules, ending, places, stream = decode(data)
    whole = oracle.frame([stream], ending, rules)
    pieces = oracle.frame(cut(stream, places), ending, rules)
    expected = oracle.expect(stream, ending, rules)
    oracle.check({1: whole, 2: pieces}, {1: expected, 2: expected}, rules)
    blocks = [oracle.block_of([(1, chunk) for chunk in chunks], rules) for chunks in (whole, pieces)]
    for parsed in ParsedBlock.of_all(blocks):
        assert [judged for _, judged in oracle.observe(parsed)] == expected, "read together"
    return len(stream)
