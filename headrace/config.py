"""The configuration file: frozen data, decoded strictly.

Each room has its own sections and explains them in its `settings.py`; here they are put together.
Decoding is the validation: what is wrong is said with the file, the key and what would be right.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from headrace.errors import ConfigError
from ingest.settings import IngestSettings, JournalSettings
from mes.settings import MesSettings
from orders.settings import AccountSettings, LogSettings, OrderSettings
from parser.settings import RecordSettings, Rules
from storage.files import MIB, read_ordinary
from storage.settings import StorageSettings
from web.settings import HttpSettings

DEFAULT_FILE: Final = Path("config.toml")
MAX_BYTES: Final = 4 * MIB
"""Of the file: lists of devices for tens of thousands of gateways."""

_DEEP: Final = "holds tables or lists within one another, too many to be read"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All sections; each may be missing."""

    ingest: IngestSettings = IngestSettings()
    record: RecordSettings = RecordSettings()
    journal: JournalSettings = JournalSettings()
    storage: StorageSettings = StorageSettings()
    http: HttpSettings = HttpSettings()
    accounts: AccountSettings = AccountSettings()
    orders: OrderSettings = OrderSettings()
    log: LogSettings = LogSettings()
    mes: MesSettings = MesSettings()

    @property
    def rules(self) -> Rules:
        """What a block carries of it."""
        return Rules(record=self.record, max_record_bytes=self.ingest.max_record_bytes)


def source_of(path: Path | None) -> Path | None:
    """The file that counts where this one was named, or none; None for the defaults."""
    if path is None and DEFAULT_FILE.exists():
        return DEFAULT_FILE
    return path


def load_config(path: Path | None) -> Config:
    """The configuration in this file; without one that in config.toml, or the defaults.

    Raises:
        ConfigError: the file is missing, can't be read, or says something that can't be.
    """
    path = source_of(path)
    if path is None:
        return Config()
    try:
        content = tomllib.loads(read_ordinary(path, MAX_BYTES).decode())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    except ValueError as error:  # what the reader of TOML leaves to Python, which turns long ones down
        raise ConfigError(f"{path}: holds a number with thousands of digits") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: {_DEEP}") from error
    return decode_config(content, str(path))


def decode_config(content: dict[str, Any], source: str) -> Config:
    """The configuration that these tables say.

    Raises:
        ConfigError: a key is unknown or its value is not what it has to be.
    """
    try:
        if (key := next(_too_long(content), None)) is not None:
            raise ConfigError(f"{source}: {key}: an integer of TOML has 64 bits at most")
        return msgspec.convert(content, Config)
    except RecursionError as error:
        raise ConfigError(f"{source}: {_DEEP}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_explain(str(error))}") from None


def _too_long(tables: dict[str, Any], name: str = "") -> Iterator[str]:
    """Keys with an integer that Python reads, and that no worker could be told."""
    for key, value in tables.items():
        if isinstance(value, dict):
            yield from _too_long(value, f"{name}.{key}".lstrip("."))
        elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            yield _shown(name, key)


def _explain(message: str) -> str:
    """What msgspec says, with the key as it stands in the file."""
    text, _, path = message.partition(" - at `$")
    section, _, key = path.rstrip("`").lstrip(".").replace("[...]", "").rpartition(".")
    if (unknown := re.search(r"unknown field `(.*)`", text)) is not None:
        where = ".".join(part for part in (section, key) if part)
        known = ", ".join(_known_keys(where))
        return f"{_shown(where, unknown[1])}: there is no such key; known are: {known}"
    if (named := re.match(r"([a-z_]+(?:\.\w+)?): (.*)", text)) is not None:  # said by a section itself
        return f"{_shown('.'.join(part for part in (section, key) if part), named[1])}: {named[2]}"
    if text.startswith("Invalid enum value"):
        choices = " or ".join(repr(choice) for choice in get_args(_type_of(f"{section}.{key}")))
        text = f"must be {choices}, not {text.removeprefix('Invalid enum value ')}"
    return f"{_shown(section, key)}: {text[:1].lower()}{text[1:]}"


def _shown(section: str, key: str) -> str:
    return f"[{section}] {key}" if section else key


def _known_keys(where: str) -> list[str]:
    return [field.name for field in msgspec.structs.fields(_type_of(where))]


def _type_of(where: str) -> Any:
    """What stands under a dotted name; the whole file under none."""
    kind: Any = Config
    for part in where.split(".") if where else []:
        kind = next(field.type for field in msgspec.structs.fields(kind) if field.name == part)
    return kind
