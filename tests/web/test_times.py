"""Times as programs write them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.times import format_time, parse_time
from web.views import show_bytes, view_times

MILLISECONDS = st.integers(-62_135_596_800_000, 253_402_300_799_999)
OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(MILLISECONDS)
def test_what_is_written_is_read_back(ms: int) -> None:
    """In all years that RFC 3339 has; alone and many at once the same."""
    assert parse_time(format_time(ms)) == ms
    assert view_times([ms]) == [format_time(ms)]
    assert parse_time(str(ms)) == ms


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=OFFSETS))  # noqa: DTZ001  # strategies want bounds without a zone
def test_a_fraction_of_a_millisecond_counts_as_a_whole_one(at: datetime) -> None:
    """So comparing whole milliseconds decides as the exact times would."""
    exact = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    ms = parse_time(at.isoformat(timespec="microseconds"))
    assert (ms - 1) * 1000 < exact <= ms * 1000


@given(st.text() | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", fullmatch=True))
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    """Nothing else comes out."""
    try:
        assert isinstance(parse_time(text), int)
    except ValueError:
        return


@pytest.mark.parametrize("text", ["", "2024-07-24", "2024-07-24T21:51", "20240724T215136Z", "1e3", "٣"])
def test_what_is_not_a_whole_time_is_refused(text: str) -> None:
    """Also what other readers of ISO 8601 take."""
    with pytest.raises(ValueError, match="must be like"):
        parse_time(text)


@given(st.binary())
def test_shown_bytes_are_printable_and_tell_all_bytes_apart(raw: bytes) -> None:
    """They could be read back."""
    shown = show_bytes(raw)
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.encode().decode("unicode_escape").encode("latin-1") == raw
