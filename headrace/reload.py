"""Changing the configuration while the server runs: at SIGHUP its file is read anew.

Where anything in it is wrong it is refused as a whole, and the running one stays. What may change stands in
`WHILE_RUNNING` and nowhere else: any other key, and so a new one, keeps its value until the next start, which
each SIGHUP says again. Whoever takes a configuration over does first what can fail, so nothing is half taken.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import structlog

from headrace.config import Config, load_config
from headrace.errors import ConfigError
from ingest.errors import IngestError

S = TypeVar("S", bound=msgspec.Struct)

WHILE_RUNNING: Final = frozenset(
    {
        "ingest.allow",
        "ingest.first_record_timeout_s",
        "ingest.handshake_timeout_s",
        "ingest.identities",
        "ingest.idle_timeout_s",
        "ingest.keepalive_s",
        "ingest.max_bytes_per_s",
        "ingest.max_connections",
        "ingest.max_connections_per_address",
        "ingest.max_connections_per_identity",
        "ingest.max_connects_per_minute",
        "ingest.max_records_per_s",
        "ingest.record_timeout_s",
        "journal.keep_hours",
        "log.stderr_level",
        "record.limits",
    }
)
"""The keys that count at once, with their sections."""

_WITH: Final = {"ingest.identities": "ingest.bind_identity"}
"""Keys that wait for a restart where another one does: lists that were left out as nobody is to be bound any
more would bind gateways to themselves until then."""

LATE_S: Final = 10.0
"""A reload that takes longer is told of: its files may lie on a network that is away."""

_log = structlog.get_logger("headrace")


class Change(NamedTuple):
    """What a file that was read anew comes to."""

    config: Config
    """What counts from now on: the running one, with the file's values where they may change."""

    taken: list[str]
    """Keys that count at once, as they are shown."""

    needs_restart: list[str]
    """Keys that keep their running value."""


def values(section: msgspec.Struct, name: str = "") -> Iterator[tuple[str, object]]:
    """Every key with its section, and what it says."""
    for key, value in msgspec.structs.asdict(section).items():
        dotted = f"{name}.{key}".lstrip(".")
        if isinstance(value, msgspec.Struct):
            yield from values(value, dotted)
        else:
            yield dotted, value


def compare(running: Config, wanted: Config) -> Change:
    """What becomes of a wanted configuration while this one runs.

    Raises:
        ConfigError: what may change doesn't go together with what keeps its value.
    """
    now = dict(values(running))
    differing = sorted(key for key, value in values(wanted) if now[key] != value)
    at_once = WHILE_RUNNING - {key for key, other in _WITH.items() if other in differing}
    try:
        config = _changed(running, wanted, at_once)
    except ValueError as error:
        raise ConfigError(f"{error}, with what keeps its value until a restart") from None
    return Change(
        config,
        [_shown(key) for key in differing if key in at_once],
        [_shown(key) for key in differing if key not in at_once],
    )


def _changed(section: S, wanted: msgspec.Struct, at_once: frozenset[str], name: str = "") -> S:
    changes: dict[str, Any] = {}
    now = msgspec.structs.asdict(section)
    for key, value in msgspec.structs.asdict(wanted).items():
        dotted = f"{name}.{key}".lstrip(".")
        if isinstance(value, msgspec.Struct):
            changes[key] = _changed(now[key], value, at_once, dotted)
        elif dotted in at_once:
            changes[key] = value
    return msgspec.structs.replace(section, **changes)


def _shown(dotted: str) -> str:
    section, _, key = dotted.rpartition(".")
    return f"[{section}] {key}"


class Reloader:
    """The configuration of a running server."""

    def __init__(
        self, source: Path | None, running: Config, take: Callable[[Config], Awaitable[None]]
    ) -> None:
        """`take` makes a configuration count, or raises an IngestError having changed nothing."""
        self._source = source
        self._take = take
        self.running = running

    async def reload(self) -> None:
        """Read the file anew, take over what may change, and say what came of it."""
        try:
            wanted = await asyncio.to_thread(load_config, self._source)
            change = compare(self.running, wanted)
            await self._take(change.config)
        except (ConfigError, IngestError) as error:
            _log.error("configuration_refused", reason=str(error))
            return
        self.running = change.config
        # A warning, so that who asked is answered under every level but one.
        _log.warning("configuration_changed", taken=change.taken, needs_restart=change.needs_restart)

    async def run(self, heard: asyncio.Event) -> None:
        """Reload each time that it is set, until cancelled; what comes during a reload is one more."""
        while True:
            await heard.wait()
            heard.clear()
            late = asyncio.get_running_loop().call_later(LATE_S, _say_late)
            try:
                await self.reload()
            except Exception:  # noqa: BLE001  # a bug must not end what listens for the next one
                _log.exception("configuration_refused", reason="it could not be read")
            finally:
                late.cancel()


def _say_late() -> None:
    _log.warning("configuration_not_read_yet", reason="its files, or those it names, don't answer")


@asynccontextmanager
async def reloading(reloader: Reloader, heard: asyncio.Event) -> AsyncIterator[None]:
    """Reload at each SIGHUP, for as long as the context lasts."""
    task = asyncio.create_task(reloader.run(heard), name="reload")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def ignore_hangups() -> None:
    """Let SIGHUP do nothing; without this it ends the process."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextmanager
def hangups() -> Iterator[asyncio.Event]:
    """An event that SIGHUP sets, for as long as the context lasts; then SIGHUP does nothing.

    The loop's own handler would give the signal back its deadly default before the process has ended.
    """
    heard = asyncio.Event()
    loop = asyncio.get_running_loop()
    signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(heard.set))
    try:
        yield heard
    finally:
        ignore_hangups()
