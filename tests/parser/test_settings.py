"""Settings that cannot work are refused, naming the key."""

from string import ascii_letters, digits

import msgspec
import pytest

from parser.settings import FIELDS, RecordSettings, Rules


@pytest.mark.parametrize("byte", [*ascii_letters, *digits, *"+-._", "", "##", "\xa7", "\x80"])
@pytest.mark.parametrize("key", ["delimiter", "field_delimiter"])
def test_a_delimiter_is_one_byte_that_is_no_data(key: str, byte: str) -> None:
    """Nothing that numbers and names are made of can separate them, nor anything but one ASCII byte."""
    with pytest.raises(msgspec.ValidationError, match=rf"^{key}: must be one ASCII byte"):
        msgspec.convert({key: byte}, RecordSettings)


@pytest.mark.parametrize("byte", ["\r", "\n", "\0", "\x01", "\x7f"])
def test_fields_are_not_separated_by_control_characters(byte: str) -> None:
    """They may end a record; between fields only the tab is one."""
    assert RecordSettings(delimiter=byte).delimiter == byte
    with pytest.raises(ValueError, match=r"^field_delimiter: "):
        RecordSettings(field_delimiter=byte)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"delimiter": ","}, "field_delimiter: must differ from delimiter"),
        ({"fields": FIELDS[:5]}, "fields: must name each of these once"),
        ({"fields": FIELDS[:5] + FIELDS[:1]}, "fields: must name each of these once"),
        ({"limits": {"device_id": (0, 1)}}, "limits.device_id: no such number"),
        ({"limits": {"power_kw": (2, 1)}}, r"limits.power_kw: must be \[lowest, highest\]"),
        ({"limits": {"power_kw": (float("nan"), 1)}}, r"limits.power_kw: must be \[lowest, highest\]"),
        ({"separator": ";"}, "unknown field `separator`"),
    ],
)
def test_what_cannot_work_is_refused(wrong: dict[str, object], message: str) -> None:
    """The message names the key and what would be right."""
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(wrong, RecordSettings)


def test_a_delimiter_is_never_white_space() -> None:
    """What separates is not stripped, or a missing last field would go unnoticed."""
    rules = Rules(record=RecordSettings(delimiter="\n", field_delimiter="\t"))
    assert (rules.around_records, rules.around_fields, rules.breaks) == (b" \r\0", b" ", b"\r\0")
