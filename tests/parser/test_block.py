"""Blocks come back as they were written, or not at all."""

import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parser.block import (
    CHUNKS,
    MAX_NODE,
    RECORD_BITS,
    Block,
    Closed,
    DamagedBlockError,
    Event,
    Opened,
    Started,
    chunk_table,
    decode_block,
    from_seq,
    to_seq,
)
from parser.framing import Chunk, Ending
from parser.parsed import ParsedBlock
from parser.settings import Rules
from parser.verdicts import Reason
from tests.parser import oracle
from tests.parser.strategies import cut, endings, rules, streams

ids = st.integers(0, 2**63 - 1)
events = st.lists(
    st.one_of(
        st.builds(Opened, ids, st.text(max_size=8), st.none() | st.text(max_size=8)),
        st.builds(Closed, ids, st.sampled_from(["closed", "reset"]), ids),
        st.builds(Started, st.text(max_size=8)),
    ),
    max_size=3,
)


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    """Blocks of up to three connections' chunks, with any settings and events."""
    own: Rules = draw(rules())
    chunks = [
        (connection, chunk)
        for connection in draw(st.lists(ids, max_size=3))
        for chunk in oracle.frame(cut(draw(streams(own)), [draw(st.integers(0, 99))]), draw(endings), own)
    ]
    table, payload = chunk_table(chunks)
    node, first = draw(st.integers(0, MAX_NODE)), draw(st.integers(0, 2**RECORD_BITS - 1))
    happened: tuple[Event, ...] = tuple(draw(events))
    return Block(draw(st.integers(1, 2**63 - 1)), node, first, draw(ids), own, happened, table, payload)


@given(blocks())
def test_a_block_comes_back_as_it_was_written(block: Block) -> None:
    """Header and payload carry all of a block: also its settings, its events and each chunk's ending."""
    header, check = block.encode()
    again = decode_block(block.id, header, block.payload, check)
    assert again.chunks.dtype == CHUNKS
    assert again.chunks.tobytes() == block.chunks.tobytes()
    for name in ("id", "node", "first_record", "stamp_us", "rules", "events", "payload", "condemned"):
        assert getattr(again, name) == getattr(block, name)
    assert (
        again.next_record - again.first_record == block.records == block.payload.count(block.rules.delimiter)
    )


@settings(max_examples=20)
@given(blocks(), st.data())
def test_one_flipped_bit_is_damage(block: Block, data: st.DataObject) -> None:
    """Whichever bit of header, payload, id or check is another one, the block is refused."""
    header, check = block.encode()
    stored = bytearray(header + block.payload)
    for bit in data.draw(st.sets(st.integers(0, 8 * len(stored) - 1), max_size=40)):
        stored[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedBlockError):
            decode_block(block.id, bytes(stored[: len(header)]), bytes(stored[len(header) :]), check)
        stored[bit // 8] ^= 1 << bit % 8
    for bit in range(32):
        with pytest.raises(DamagedBlockError):
            decode_block(block.id ^ 1 << bit, header, block.payload, check)
        with pytest.raises(DamagedBlockError):
            decode_block(block.id, header, block.payload, check ^ 1 << bit)


def test_every_bit_of_a_block_counts() -> None:
    """Each single bit of one whole block, in turn, makes it damaged when it flips."""
    table, payload = chunk_table([(1, Chunk(b"E1,1,2,3,4,5#", 1, 0, Ending.DELIMITER))])
    block = Block(1, 0, 1, 1, Rules(), (Opened(1, "here"),), table, payload)
    header, check = block.encode()
    whole = header + payload
    for bit in range(8 * len(whole)):
        flipped = (int.from_bytes(whole) ^ 1 << bit).to_bytes(len(whole))
        with pytest.raises(DamagedBlockError, match="block 1"):
            decode_block(1, flipped[: len(header)], flipped[len(header) :], check)


@given(blocks())
def test_what_is_read_again_says_the_same(block: Block) -> None:
    """A block from the journal gives the rows and rejects that it gave when it was made."""
    header, check = block.encode()
    again = ParsedBlock.of(decode_block(block.id, header, block.payload, check))
    assert list(oracle.observe(again)) == list(oracle.observe(ParsedBlock.of(block)))


def test_a_header_that_makes_no_sense_is_damage() -> None:
    """A check that fits is not enough: what another program wrote is refused, not guessed at."""
    block = oracle.block_of([], Rules())
    for header in (b"", b"\x93\x01\x02\x03", msgspec.msgpack.encode([0, 1, 2, {}, [], b"odd"])):
        check = zlib.crc32(header, block.id)
        with pytest.raises(DamagedBlockError, match="header not readable"):
            decode_block(block.id, header, b"", check)


def test_a_block_of_nothing() -> None:
    """A tick in which connections only came and went makes a block without chunks, read like any other."""
    parsed = ParsedBlock.of(oracle.block_of([], Rules()))
    assert parsed.block.records == parsed.empty == 0
    assert parsed.seqs.shape == (0,)
    assert parsed.columns.values.shape == (5, 0)
    assert parsed.tallies.shape == (0,)


@given(st.integers(0, MAX_NODE), st.integers(0, 2**RECORD_BITS - 1))
def test_numbers_of_rows(node: int, record: int) -> None:
    """Node and record come back out of a row's number, which is a positive 64-bit integer."""
    seq = to_seq(node, record)
    assert from_seq(seq) == (node, record)
    assert 0 <= seq <= np.iinfo(np.int64).max


def test_condemned_records_are_rejects_whatever_they_say() -> None:
    """Good records whose ending condemns them are refused in their places, their neighbours are not."""
    good = b"E1,1,2,3,4,5#"
    chunks = [Chunk(good * 2, 2, 0, ending) for ending in Ending]
    block = oracle.block_of(list(enumerate(chunks)), Rules())
    expected = {2 * e + 1: Reason.TRUNCATED for e in (2, 3, 4, 5)} | {13: Reason.OVERSIZE}
    assert block.condemned == expected
    parsed = ParsedBlock.of(block)
    assert {r.index: r.verdict.reason for r in parsed.columns.rejects} == expected
    assert parsed.columns.index.tolist() == [place for place in range(14) if place not in expected]
