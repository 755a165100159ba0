"""The vectorised parser and the plain one agree on any bytes, however they are framed and mixed."""

import random
from unittest.mock import patch

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from parser import parsed
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
    endings,
    rules,
    streams,
)

GOOD = b"E1,1,2,3,4,5"
USUAL = Rules()


def check_stream(stream: bytes, ending: Ending, rules: Rules, places: list[int]) -> None:
    """A single stream, cut at these places, says what the plain parser says of the whole."""
    chunks = oracle.frame(cut(stream, places), ending, rules)
    oracle.check({1: chunks}, {1: oracle.expect(stream, ending, rules)}, rules)


@settings(max_examples=600)
@given(st.data(), rules(), endings)
def test_any_stream_whole_and_cut(data: st.DataObject, rules: Rules, ending: Ending) -> None:
    """However TCP cuts a stream, each of its records gets the plain parser's verdict, bit by bit."""
    stream = data.draw(streams(rules))
    check_stream(stream, ending, rules, [])
    check_stream(stream, ending, rules, data.draw(st.lists(st.integers(0, 10_000), max_size=6)))


@settings(max_examples=40)
@given(st.data(), rules(), endings)
def test_any_stream_cut_at_every_byte(data: st.DataObject, rules: Rules, ending: Ending) -> None:
    """Every single cut of a short stream, and one byte at a time, change nothing."""
    stream = data.draw(streams(rules, max_records=2))[:150]
    for place in range(len(stream) + 1):
        check_stream(stream, ending, rules, [place])
    check_stream(stream, ending, rules, list(range(len(stream))))


def names_of(parsed: ParsedBlock) -> list[str]:
    """The device of each row; in which order names are listed means nothing."""
    return [parsed.columns.devices[code] for code in parsed.columns.codes]


@settings(max_examples=200)
@given(st.data(), st.lists(rules(), min_size=1, max_size=2), st.sampled_from([0, 200, 1 << 18]))
def test_blocks_read_together_are_those_read_alone(
    data: st.DataObject, known: list[Rules], together_bytes: int
) -> None:
    """However many share a reading: the same rows, rejects and tallies, places counted in each by itself."""
    blocks = []
    for _ in range(data.draw(st.integers(0, 6))):
        used = data.draw(st.sampled_from(known))
        chunks = oracle.frame([data.draw(streams(used, max_records=4))], data.draw(endings), used)
        blocks.append(oracle.block_of([(1, chunk) for chunk in chunks], used))
    with patch.object(parsed, "TOGETHER_BYTES", together_bytes):
        together = ParsedBlock.of_all(blocks)
    for block, one in zip(blocks, together, strict=True):
        alone = ParsedBlock.of(block)
        assert one.block is block
        assert names_of(one) == names_of(alone)
        assert set(one.columns.devices) == set(alone.columns.devices)
        assert one.columns.rejects == alone.columns.rejects
        for name in ("index", "values"):
            ours, theirs = getattr(one.columns, name), getattr(alone.columns, name)
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs)
        assert np.array_equal(one.tallies, alone.tallies)


@settings(max_examples=60)
@given(st.data(), rules(), st.integers(0, 2**32))
def test_long_blocks_of_many_connections(data: st.DataObject, rules: Rules, seed: int) -> None:
    """Each connection's records get their own verdicts in a block of hundreds, whoever is beside them."""
    shuffle = random.Random(seed)  # noqa: S311  # repeatable, from hypothesis
    parts = [data.draw(streams(rules, max_records=8)) for _ in range(4)]
    connections, expected = {}, {}
    for connection in range(-2, 3):
        stream = rules.delimiter.join(shuffle.choices(parts, k=12))
        ending = shuffle.choice(ENDS_OF_STREAM)
        places = [shuffle.randrange(len(stream) + 1) for _ in range(shuffle.randrange(9))]
        connections[connection] = oracle.frame(cut(stream, places), ending, rules)
        expected[connection] = oracle.expect(stream, ending, rules)
    oracle.check(connections, expected, rules)


@settings(max_examples=300)
@given(st.binary(max_size=80), endings)
@example(b"", Ending.CLEAN)
@example(b"#", Ending.CLEAN)
@example(b"##", Ending.RESET)
@example(b"a", Ending.CLEAN)
@example(b"a#", Ending.STRICT)
@example(b"#" + GOOD, Ending.CLEAN)
@example(GOOD + b"#", Ending.SHUTDOWN)
@example(b"\xef\xbb\xbf" + GOOD + b"#" + GOOD + b"#", Ending.CLEAN)
@example(b"\r\n\xef\xbb\xbf" + GOOD + b"#", Ending.CLEAN)
def test_any_bytes(stream: bytes, ending: Ending) -> None:
    """Nothing that bytes can be makes the parser raise or disagree, down to a single one and none."""
    check_stream(stream, ending, USUAL, [])


def test_every_known_number_and_name_in_every_place() -> None:
    """Each trap alone, among good neighbours, first, last, and all together."""
    numbers = ODD_NUMBERS + WRONG_NUMBERS + PLAIN_NUMBERS
    fields = GOOD.split(b",")
    for place in range(6):
        tokens = numbers if place else ODD_DEVICES + GOOD_DEVICES
        odd = [b",".join([*fields[:place], token, *fields[place + 1 :]]) for token in tokens]
        check_stream(b"#".join(odd), Ending.CLEAN, USUAL, [])
        for record in odd:
            check_stream(record + b"#", Ending.CLEAN, USUAL, [])
            check_stream(b"#".join([GOOD, record, GOOD, b""]), Ending.CLEAN, USUAL, [])


def test_white_space_everywhere() -> None:
    """What may stand around records and fields is no data there, and never shifts a neighbour."""
    for first in AROUND:
        for second in [b"", *AROUND]:
            for limit in (len(GOOD), len(GOOD) + 2, 512):
                limited = Rules(max_record_bytes=limit)
                for record in (
                    first + GOOD + second,
                    GOOD.replace(b",", first + b"," + second),
                    first + second,
                ):
                    check_stream(b"#".join([record, GOOD, record, b""]), Ending.CLEAN, limited, [])


def test_garbage_of_one_kind_fills_a_block() -> None:
    """A block of nothing but one kind of bad record is read like any other."""
    for garbage in GARBAGE:
        for count in (1, 2, 300):
            check_stream((garbage + b"#") * count, Ending.CLEAN, USUAL, [])


def test_every_pair_of_delimiters() -> None:
    """Any two delimiters that may be configured: good records are rows, the others have their reasons."""
    for delimiter in set(RECORD_DELIMITERS):
        for field_delimiter in set(FIELD_DELIMITERS) - {delimiter}:
            record = RecordSettings(delimiter=delimiter, field_delimiter=field_delimiter)
            own = Rules(record=record)
            lines = [
                GOOD,
                b"\r" + GOOD + b"\r\n",
                b"",
                b"\r",
                b"\n",
                b" ",
                b"\r\n",
                b"E1,1,2",
                b"E1,1, 2,3,nan,5",
            ]
            stream = own.delimiter.join(line.replace(b",", own.field_delimiter) for line in lines * 2)
            check_stream(stream, Ending.CLEAN, own, [])
            check_stream(stream, Ending.RESET, own, [5, 20])


def test_other_field_orders_give_the_same_columns() -> None:
    """Values come in the order of the tables, whatever the order on the wire."""
    for shift in range(6):
        order = FIELDS[shift:] + FIELDS[:shift]
        record = RecordSettings(fields=order, limits={"power_kw": (4.0, 4.0), "voltage_v": (0.0, 5.0)})
        parts = dict(zip(FIELDS, GOOD.split(b","), strict=True))
        line = b",".join(parts[name] for name in order)
        check_stream(
            b"#".join([line, b"", line.replace(b"4", b"4e0"), line.replace(b"5", b"5.1")]),
            Ending.CLEAN,
            Rules(record=record),
            [],
        )
