"""The wire format: records are what a server takes, acknowledgements are read in any pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parser.reference import parse_record
from parser.settings import Rules
from parser.verdicts import Accepted
from simulator.errors import AcknowledgementError
from simulator.wire import AckReader, device_name, encode

values = st.tuples(
    st.floats(-50, 200),
    st.integers(0, 2**53).map(float),
    st.floats(0, 20),
    st.floats(0, 50),
    st.floats(0, 500),
)


@given(st.integers(0, 200_000), values)
def test_a_record_is_accepted_with_its_values(index: int, five: tuple[float, ...]) -> None:
    """Rounded to the decimals of the wire; a whole speed is exact up to 2^53."""
    [record] = encode([device_name(index).encode()], [five])
    verdict = parse_record(record.removesuffix(b"#"), Rules())
    assert isinstance(verdict, Accepted)
    assert verdict.device_id == device_name(index)
    assert verdict.values[1] == five[1]
    assert verdict.values == pytest.approx(five, abs=0.0501)


@given(st.lists(st.integers(0, 1000), max_size=6), st.integers(1, 9))
def test_acknowledgements_come_in_any_pieces(counts: list[int], size: int) -> None:
    """Whole, byte by byte, and with a tail."""
    counts.sort()
    stream = b"".join(b"ACK,%d#" % count for count in counts) + b"ACK,99"
    reader = AckReader()
    for place in range(0, len(stream), size):
        reader.feed(stream[place : place + size], 1000)
    assert reader.acknowledged == max(counts, default=0)


@pytest.mark.parametrize(
    "answer", [b"ACK,6#", b"ACK,4#ACK,3#", b"NAK,1#", b"ACK,#", b"ACK,-1#", b"#", b"?" * 60]
)
def test_what_cannot_be_is_refused(answer: bytes) -> None:
    """More than was sent, fewer than before, or no acknowledgement at all."""
    with pytest.raises(AcknowledgementError):
        AckReader().feed(answer, 5)
