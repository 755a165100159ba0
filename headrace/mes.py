"""`headrace mes`: the supplier's MES in a process of its own, or within another one."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from headrace.errors import ConfigError
from mes.amp.line import producing
from mes.amp.service import AmpService
from mes.amp.store import AmpStore
from mes.settings import MesSettings
from storage.errors import StorageError
from web.amp import create_amp_app
from web.server import serve_http
from web.settings import HttpSettings

TOKEN: Final = "HEADRACE_MES_TOKEN"  # noqa: S105  # the name of the variable
_MIN_TOKEN: Final = 16


def read_token(environment: Mapping[str, str]) -> str:
    """What callers have to show.

    Raises:
        ConfigError: it is missing, or too easily guessed, or can't stand in a header.
    """
    token = environment.get(TOKEN, "")
    if len(token) < _MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{TOKEN}: must be {_MIN_TOKEN} characters or more, of ASCII and without spaces; "
            f"make one: export {TOKEN}=$(openssl rand -hex 32)"
        )
    return token


@asynccontextmanager
async def run_mes(settings: MesSettings, token: str) -> AsyncIterator[str]:
    """The MES for as long as the context lasts; its value is the address to call.

    Raises:
        ConfigError: it can't start as it is configured.
    """
    async with AsyncExitStack() as stack:
        store = AmpStore(Path(settings.path))
        stack.push_async_callback(store.close)
        await _open(store)
        service = AmpService(store)
        await stack.enter_async_context(producing(service, settings.piece_s))
        app = create_amp_app(service, token)
        http = HttpSettings(host=settings.host, port=settings.port)
        try:
            address = await stack.enter_async_context(serve_http(app, http))
        except OSError as error:
            raise ConfigError(f"[mes] host, port: {error.strerror}") from error
        yield address.url


async def _open(store: AmpStore) -> None:
    """At once, so that what is wrong with the file is said at the start."""
    try:
        await store.open()
    except StorageError as error:
        raise ConfigError(f"[mes] path: {error}") from error
