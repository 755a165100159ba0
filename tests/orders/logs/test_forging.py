"""Nothing that a stranger writes forges a row, a line or a terminal."""

from typing import Any

import pytest
import structlog
from hypothesis import assume, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from orders.logs.base import LogRow
from orders.logs.handler import LogHandler
from orders.logs.memory import MemoryLogStore
from orders.logs.text import visible
from orders.settings import KeepDays, LogSettings
from tests.orders.logs.building import rows

ATTACKS = {
    "a row of its own": 'x\n{"event": "log_row", "level": "info"}',
    "a carriage return": "denied\rgranted",
    "an escape sequence": "\x1b[2J\x1b]0;owned\x07",
    "C1, the same in one byte": "\x9b31m",
    "a bell and a backspace": "ab\x08\x07",
    "NUL and DEL": "a\x00b\x7f",
    "next line of Unicode": "a\x85b\u2028c\u2029d",
    "a line turned around": "user \u202egnorw\u202c \u2066x\u2069 \u200f\u061c",
    "invisible characters": "ad\u200bm\u2060i\ufeffn\u00ad",
    "tags that nobody sees": "a\U000e0041\U000e007f",
    "half a character": "\ud800\udfff",
    "another space": "a\u00a0b\u3000",
    "what looks escaped already": "\\n\\x1b",
}
anything = st.text(st.characters(exclude_categories=()), max_size=40)


@given(text=anything | st.sampled_from(sorted(ATTACKS.values())), limit=st.integers(8, 60))
def test_what_is_shown_can_be_seen_and_has_a_bound(text: str, limit: int) -> None:
    """Whatever it was: printable, in so many characters, and the same where it was harmless."""
    shown = visible(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    assert shown.encode().decode() == shown
    if text.isprintable() and "\\" not in text and len(text) <= limit:
        assert shown == text


@given(text=anything, limit=st.integers(1, 60))
def test_what_is_cut_says_so_and_cuts_no_escape(text: str, limit: int) -> None:
    """It is a beginning of the whole, made of whole characters."""
    whole, shown = visible(text, 10_000), visible(text, limit)
    if shown == whole:
        return
    assert shown.endswith("…")
    beginnings = {visible(text[:count], 10_000) for count in range(len(text))}
    assert shown.removesuffix("…") in beginnings


@given(one=anything, other=anything)
def test_what_differs_looks_different(one: str, other: str) -> None:
    """What was sent can be told from what was escaped."""
    assume(one != other)
    assert visible(one, 10_000) != visible(other, 10_000)


@given(
    one=st.sampled_from(["\\n", "\\x1b", "\\\\n", "\n", "\x1b", "\\"]), other=st.sampled_from(["\n", "\\n"])
)
def test_a_forged_escape_looks_different(one: str, other: str) -> None:
    assert (visible(one, 99) == visible(other, 99)) == (one == other)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_an_attack_is_one_harmless_row_and_line(attack: str) -> None:
    """In every place where a stranger's text can stand, in the table and on standard error."""
    store = MemoryLogStore(KeepDays())
    handler = LogHandler(store, LogSettings(), CollectorRegistry())
    log = handler.logger(component=attack, file=attack)
    with structlog.testing.capture_logs() as lines:
        log.error(attack, user_id=attack, **{attack: attack, "reason": [attack]})
    await handler.close()
    (row,) = await rows(store)
    (line,) = lines
    for text in (*_texts(row), *_rendered(line)):
        assert text.isprintable(), ascii(text)
        assert text.encode()


def _texts(row: LogRow) -> list[str]:
    info = row.additional_info
    return [row.message, row.user_id, row.source_component, row.source_file, *info, *info.values()]


def _rendered(line: Any) -> list[str]:
    """As operators see it: on a terminal, and in a file of JSON lines."""
    console = structlog.dev.ConsoleRenderer(colors=False)(None, "error", dict(line))
    written = structlog.processors.JSONRenderer()(None, "error", dict(line))
    return [console, str(written)]
