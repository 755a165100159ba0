"""Framing keeps little, counts right and says where everything stood, however the bytes arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parser.framing import Chunk, Ending, Framer
from parser.settings import RecordSettings, Rules
from tests.parser.strategies import ENDS_OF_STREAM, cut, endings, rules, streams

SMALL = Rules(max_record_bytes=8)


@given(st.data(), rules(), endings)
def test_chunks_are_whole_and_in_their_places(data: st.DataObject, rules: Rules, ending: Ending) -> None:
    """Each chunk holds the delimiters it claims, ends with one, and stands in the stream where it says."""
    stream = data.draw(streams(rules))
    framer = Framer(rules)
    chunks: list[Chunk] = []
    for piece in cut(stream, data.draw(st.lists(st.integers(0, 10_000), max_size=8))):
        chunks += framer.feed(piece)
        assert len(framer._tail) <= rules.max_record_bytes
    assert framer.received == len(stream)
    chunks += framer.end(ending)
    assert framer.received == len(stream)
    for chunk in chunks:
        assert chunk.data.count(rules.delimiter) == chunk.records > 0
        assert chunk.data.endswith(rules.delimiter)
        sent = chunk.data if chunk.ending is Ending.DELIMITER else chunk.data[:-1]
        assert stream[chunk.offset : chunk.offset + len(sent)] == sent


def test_a_gigabyte_without_a_delimiter_is_one_reject_and_no_memory() -> None:
    """Nothing is kept of an endless record but its beginning, once; the stream goes on behind it."""
    framer = Framer(Rules())
    piece = b"x" * (1 << 20)
    chunks = [chunk for _ in range(1 << 10) for chunk in framer.feed(piece)]
    assert chunks == [Chunk(b"x" * 512 + b"#", 1, 0, Ending.OVERSIZE)]
    assert framer._tail == b""
    assert framer.received == 1 << 30
    assert framer.feed(b"xx#E1,1,2,3,4,5#") == [
        Chunk(b"E1,1,2,3,4,5#", 1, (1 << 30) + 3, Ending.DELIMITER),
    ]


def test_an_endless_record_that_ends_with_the_stream_is_counted_once() -> None:
    """What is skipped takes no second number, whatever ends it."""
    for ending in (Ending.CLEAN, Ending.RESET):
        framer = Framer(SMALL)
        assert [chunk.ending for chunk in framer.feed(b"x" * 9)] == [Ending.OVERSIZE]
        assert framer.feed(b"y" * 100) == []
        assert framer.end(ending) == []


def test_the_limit_is_inclusive() -> None:
    """A record of exactly the limit is carried, one byte more is given up."""
    framer = Framer(SMALL)
    assert framer.feed(b"12345678") == []
    assert framer.feed(b"#12345678") == [Chunk(b"12345678#", 1, 0, Ending.DELIMITER)]
    assert framer.feed(b"9") == [Chunk(b"12345678#", 1, 9, Ending.OVERSIZE)]


@pytest.mark.parametrize("ending", ENDS_OF_STREAM)
def test_what_follows_the_last_delimiter_carries_its_ending(ending: Ending) -> None:
    """A tail is handed on with the delimiter it lacks, and with how it came to its end."""
    framer = Framer(SMALL)
    framer.feed(b"a#b")
    assert framer.end(ending) == [Chunk(b"b#", 1, 2, ending)]
    assert framer.end(ending) == []


@pytest.mark.parametrize("white", [b"", b" ", b"\r\n", b"\0", b" \t\r\n\0"])
def test_white_space_behind_the_last_delimiter_is_nothing(white: bytes) -> None:
    """It takes no number, so a machine that ends its lines with `#` and a new line sends no empty record."""
    framer = Framer(SMALL)
    assert [chunk.records for chunk in framer.feed(b"a#" + white)] == [1]
    assert framer.end(Ending.RESET) == []


def test_white_space_before_a_record_makes_it_no_longer() -> None:
    """However much there is, and at whatever pace: a machine may keep its connection alive with new lines."""
    framer = Framer(SMALL)
    framer.feed(b"a#")
    for _ in range(100):
        assert framer.feed(b"\r\n") == []
        assert len(framer._tail) <= 8
        assert not framer.unfinished
    assert framer.feed(b" 1234567") == []
    assert framer.feed(b"8#") == [Chunk(b"12345678#", 1, 203, Ending.DELIMITER)]
    assert framer.feed(b" " * 9) == framer.end(Ending.CLEAN) == []
    assert framer.received == 221


def test_white_space_delivers_nothing() -> None:
    """A stranger who sends only that is still one who has sent no record."""
    framer = Framer(SMALL)
    assert framer.feed(b"\0" * 1000) == []
    assert (framer.handed_on, framer.received) == (0, 1000)
    assert framer.feed(b"#") == [Chunk(b"#", 1, 1000, Ending.DELIMITER)]
    assert framer.handed_on == 1


def test_a_little_white_space_stays_with_its_record() -> None:
    """Of a reject it may say what went wrong."""
    framer = Framer(SMALL)
    assert framer.feed(b"\0\r\n") == framer.feed(b"12") == []
    assert framer.feed(b"34#\n") == [Chunk(b"\0\r\n1234#", 1, 0, Ending.DELIMITER)]
    assert framer.feed(b"5#") == [Chunk(b"\n5#", 1, 8, Ending.DELIMITER)]


def test_a_delimiter_is_no_white_space() -> None:
    """Where a tab stands between fields it isn't dropped from a tail: five empty fields are a record."""
    framer = Framer(Rules(record=RecordSettings(field_delimiter="\t")))
    framer.feed(b"\t\t")
    assert [chunk.records for chunk in framer.end(Ending.CLEAN)] == [1]


@given(st.data(), rules())
def test_a_record_is_unfinished_from_its_first_byte_to_its_last(data: st.DataObject, rules: Rules) -> None:
    """White space begins none, what is skipped belongs to none; what was handed on was one at least."""
    framer, chunks = Framer(rules), list[Chunk]()
    stream = data.draw(streams(rules))
    for piece in cut(stream, data.draw(st.lists(st.integers(0, 10_000), max_size=8))):
        chunks += framer.feed(piece)
        assert (framer.handed_on > 0) is bool(chunks)
    was_unfinished = framer.unfinished
    assert bool(framer.end(Ending.CLEAN)) is was_unfinished
