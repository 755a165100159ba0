"""The gate: closed while anybody has a reason, and each change is said once."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.gate import Gate


def test_the_first_reason_closes_and_the_last_one_opens() -> None:
    said: list[str] = []
    gate = Gate(on_close=lambda: said.append("close"), on_open=lambda: said.append("open"))
    gate.close("disk")
    gate.close("queue")
    gate.open("disk")
    assert gate.closed
    assert gate.reasons == {"queue"}
    gate.open("queue")
    assert not gate.closed
    assert said == ["close", "open"]


def test_a_reason_that_nobody_had_opens_nothing() -> None:
    said: list[str] = []
    gate = Gate(on_close=lambda: said.append("close"), on_open=lambda: said.append("open"))
    gate.open("disk")
    assert said == []


@given(steps=st.lists(st.tuples(st.booleans(), st.sampled_from("abc"))))
def test_closing_and_opening_take_turns(steps: list[tuple[bool, str]]) -> None:
    """Whoever closes and opens in whatever order, the gate agrees with the set of reasons."""
    said: list[bool] = []
    gate = Gate(on_close=lambda: said.append(True), on_open=lambda: said.append(False))
    reasons: set[str] = set()
    for close, reason in steps:
        (gate.close if close else gate.open)(reason)
        (reasons.add if close else reasons.discard)(reason)
        assert gate.closed == bool(reasons)
        assert gate.reasons == reasons
    assert said == [turn % 2 == 0 for turn in range(len(said))]
    assert gate.closed == bool(said and said[-1])
