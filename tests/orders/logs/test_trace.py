"""Trace ids, as W3C Trace Context wants them."""

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.logs.trace import current_trace, new_trace, trace_of, traceparent_of, tracing

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
WIDE = TRACE.replace("4", "\uff14")
PARENT = "00f067aa0ba902b7"
IS_TRACE = re.compile("[0-9a-f]{32}")
traces = st.text("0123456789abcdef", min_size=32, max_size=32).filter(lambda text: set(text) != {"0"})


@pytest.mark.parametrize(
    "header",
    [
        f"00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-00",
        f"00-{TRACE}-{PARENT}-ff",
        f" 00-{TRACE}-{PARENT}-01\t",
        f"cc-{TRACE}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-what the future brings",
    ],
)
def test_a_valid_header_is_followed(header: str) -> None:
    """Also one of a version to come, whose beginning is the same."""
    if "what" in header:
        header = header.replace(" ", "-")
    assert trace_of(header) == TRACE


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        TRACE,
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01-",
        f"ff-{TRACE}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE}0-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-0g",
        f"00-{TRACE}-{PARENT}-01\n",
        f"00-{TRACE}-{PARENT}-01, 00-{TRACE}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01" + "-x" * 1_000,
        f"00-{WIDE}-{PARENT}-01",
    ],
)
def test_a_header_that_is_not_valid_is_as_good_as_none(header: str | None) -> None:
    """A new trace begins, each time another one."""
    first, second = trace_of(header), trace_of(header)
    assert IS_TRACE.fullmatch(first)
    assert first != second
    assert TRACE not in (first, second)


@given(header=st.text() | st.text("0123456789abcdef-", max_size=60))
def test_whatever_comes_there_is_a_trace(header: str) -> None:
    assert IS_TRACE.fullmatch(trace_of(header))


@given(trace=traces)
def test_what_is_sent_on_is_understood(trace: str) -> None:
    """The trace goes on; each call is a new parent."""
    assert trace_of(traceparent_of(trace)) == trace
    assert traceparent_of(trace) != traceparent_of(trace)


async def test_each_task_has_its_own() -> None:
    """Requests under way at one time don't mix, and nothing is left behind."""
    both_inside = asyncio.Barrier(2)

    async def request() -> tuple[str, str | None]:
        trace = new_trace()
        with tracing(trace):
            await both_inside.wait()
            return trace, current_trace()

    for trace, seen in await asyncio.gather(request(), request()):
        assert seen == trace
    assert current_trace() is None
