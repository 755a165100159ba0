"""Who may send what: the vectorised check says of each record what the plain parser says."""

from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from parser import senders
from parser.block import Block, decode_block
from parser.framing import Chunk, Ending
from parser.parsed import ParsedBlock
from parser.reference import parse_record
from parser.senders import Pairs
from parser.settings import Rules
from parser.verdicts import NEVER_REPLAYED, Reason, Refused
from tests.parser import oracle
from tests.parser.strategies import GOOD_DEVICES, cut, endings, rules, streams

NAMES = [name.decode() for name in GOOD_DEVICES]
RECORD = b"%s,1,2,3,4,5#"

allowances = st.lists(st.sampled_from([*NAMES, "E0001", "nobody"]), max_size=4).map(tuple)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[Block, dict[int, list[oracle.Judged]]]:
    """A block of some connections, each with an allowance or none, and what is expected of it."""
    own: Rules = draw(rules())
    turns: list[tuple[int, Chunk]] = []
    allowed: dict[int, tuple[str, ...]] = {}
    expected: dict[int, list[oracle.Judged]] = {}
    for connection in range(draw(st.integers(0, 4))):
        stream, ending = draw(streams(own)), draw(endings)
        chunks = oracle.frame(cut(stream, draw(st.lists(st.integers(0, 999), max_size=3))), ending, own)
        places = [draw(st.integers(0, len(turns))) for _ in chunks]
        for place, chunk in zip(sorted(places, reverse=True), reversed(chunks), strict=True):
            turns.insert(place, (connection, chunk))
        devices = draw(allowances)
        if devices:
            allowed[connection] = devices
        expected[connection] = oracle.expect(stream, ending, own, devices)
    return oracle.block_of(turns, own, allowed), expected


@settings(max_examples=200)
@given(blocks(), st.sampled_from([0, 1 << 20]))
def test_each_record_is_judged_by_its_own_connection(
    given_: tuple[Block, dict[int, list[oracle.Judged]]], table: int
) -> None:
    """With its place, its bytes and its reason; by sorting or by a table."""
    block, expected = given_
    seen: dict[int, list[oracle.Judged]] = {connection: [] for connection in expected}
    with patch.object(senders, "_TABLE", table):
        parsed = ParsedBlock.of(block)
    for connection, judged in oracle.observe(parsed):
        seen[connection].append(judged)
    assert seen == expected
    assert set(parsed.columns.devices) == {parsed.columns.devices[code] for code in parsed.columns.codes}


@settings(max_examples=60)
@given(st.lists(blocks(), max_size=4))
def test_blocks_read_together_are_those_read_alone(
    given_: list[tuple[Block, dict[int, list[oracle.Judged]]]],
) -> None:
    """Each by its own allowances, also where only some have any."""
    several = [block for block, _ in given_]
    for block, together in zip(several, ParsedBlock.of_all(several), strict=True):
        alone = ParsedBlock.of(block)
        assert together.columns.rejects == alone.columns.rejects
        assert np.array_equal(together.seqs, alone.seqs)
        assert np.array_equal(together.tallies, alone.tallies)


@given(blocks())
def test_allowances_travel_in_the_block(given_: tuple[Block, dict[int, list[oracle.Judged]]]) -> None:
    block, _ = given_
    header, check = block.encode()
    assert decode_block(block.id, header, block.payload, check).allowed == block.allowed


def test_where_nobody_asks_nothing_is_carried_or_refused() -> None:
    """One byte of the header; everybody sends for everybody."""
    chunks = [(1, Chunk(RECORD % b"E0001", 1, 0, Ending.DELIMITER))]
    plain, bound = oracle.block_of(chunks, Rules()), oracle.block_of(chunks, Rules(), {1: ("E0002",)})
    assert len(ParsedBlock.of(plain).columns.index) == 1
    assert not len(ParsedBlock.of(bound).columns.index)
    assert plain.encode()[0].endswith(b"\xc0")


def test_a_connection_without_an_allowance_may_send_nothing() -> None:
    chunks = [(1, Chunk(RECORD % b"E0001", 1, 0, Ending.DELIMITER))]
    parsed = ParsedBlock.of(oracle.block_of(chunks, Rules(), {}))
    assert parsed.columns.rejects[0].verdict == Refused(Reason.WRONG_IDENTITY, "device_id", "E0001")


def test_a_record_is_refused_for_its_sender_last() -> None:
    """What is wrong with the record itself is told first."""
    assert parse_record(b"E0002,1,2,3,4", Rules(), ("E0001",)) == Refused(Reason.FIELDS, None, "E0002")
    assert parse_record(b"E0002,1,2,3,4,5", Rules(), ("E0001",)).reason is Reason.WRONG_IDENTITY  # type: ignore[union-attr]


def test_a_record_of_the_wrong_sender_is_never_judged_again() -> None:
    """By then nobody knows whose it was."""
    assert Reason.WRONG_IDENTITY in NEVER_REPLAYED


def test_the_pairs_that_occur_are_named() -> None:
    """Each once, however often; one by one, and by connection."""
    chunks = [
        (7, Chunk(RECORD % b"E0001" + RECORD % b"E0002", 2, 0, Ending.DELIMITER)),
        (5, Chunk(RECORD % b"E0001" * 3, 3, 0, Ending.DELIMITER)),
        (7, Chunk(RECORD % b"E0002", 1, 26, Ending.DELIMITER)),
    ]
    block = oracle.block_of(chunks, Rules())
    pairs = Pairs.of(block, ParsedBlock.of(block).columns)
    named = [pairs.named(pair) for pair in pairs.occurring.tolist()]
    assert named == [(5, "E0001"), (7, "E0001"), (7, "E0002")]
    assert list(pairs.by_connection()) == [(5, ["E0001"]), (7, ["E0001", "E0002"])]
