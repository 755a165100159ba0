"""`[storage]` is checked when it is read, key by key."""

import msgspec
import pytest

from storage.settings import RejectQuota, StorageSettings


def test_nothing_has_to_be_set() -> None:
    """Without a section the embedded database is used and nothing is deleted."""
    settings = msgspec.convert({}, StorageSettings)
    assert (settings.backend, settings.keep_days) == ("sqlite", None)
    assert settings.sqlite.path == "data/headrace.db"
    assert settings.rejects == RejectQuota()


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"backend": "paper"}, "backend"),
        ({"keep_days": 0}, "keep_days"),
        ({"keep_day": 3}, "keep_day"),
        ({"sqlite": {"path": ""}}, "sqlite.path"),
        ({"sqlite": {"file": "x"}}, "file"),
        ({"rejects": {"per_minute": -1}}, "rejects.per_minute"),
    ],
)
def test_a_wrong_key_is_named(section: dict[str, object], key: str) -> None:
    """Values out of range and keys that don't exist are refused."""
    with pytest.raises(msgspec.ValidationError, match=key):
        msgspec.convert(section, StorageSettings)
