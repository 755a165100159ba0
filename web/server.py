"""The HTTP server inside our own event loop.

uvicorn is driven by its public steps (start up, tick, shut down) and not by its `serve`, which would take
over the signals of the process. The socket is bound here, so that a port in use is an error that names
it instead of an exit. Open event streams would hold up the end for ever: what ends them is called first.
"""

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import NamedTuple, cast

import uvicorn
from litestar.types import ASGIApp
from prometheus_client import CollectorRegistry

from web.deadlines import DeadlineProtocol, LimitedConfig
from web.guard import guard
from web.places import Cut, HttpMetrics, Places
from web.settings import HttpLimits, HttpSettings


class Address(NamedTuple):
    """Where the server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """What to type into a browser."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@asynccontextmanager
async def serve_http(
    app: ASGIApp,
    settings: HttpSettings,
    *,
    before_stop: Callable[[], None] = lambda: None,
    limits: HttpLimits | None = None,
    registry: CollectorRegistry | None = None,
) -> AsyncIterator[Address]:
    """Serve the application for as long as the context lasts; its value is the real address.

    `before_stop` has to end all event streams, for example `LiveFeed.end`; figures of connections come into
    `registry`, where there is one.

    Raises:
        OSError: the address can't be listened on; the message names host and port.
        RuntimeError: the application could not start.
    """
    listener = _listen(settings)
    limits = limits or HttpLimits()
    loop = asyncio.get_running_loop()
    metrics = HttpMetrics(registry or CollectorRegistry())
    places = Places(limits.max_connections, settings.max_connections_per_address, metrics, loop.time)
    config = LimitedConfig(guard(app, loopback=_is_loopback(settings.host)), limits, places)
    server = uvicorn.Server(config)
    with closing(listener):
        await _start(server, listener)
        ticking = asyncio.create_task(server.main_loop())
        try:
            yield Address(settings.host, listener.getsockname()[1])
        finally:
            before_stop()
            server.should_exit = True
            await ticking
            cutting = loop.call_later(limits.stop_timeout_s, _cut_unfinished, server)
            await server.shutdown([listener])
            cutting.cancel()


def _cut_unfinished(server: uvicorn.Server) -> None:
    """End those who don't take their answers or bring their requests: no handler waits for them any more."""
    for protocol in list(server.server_state.connections):
        cast(DeadlineProtocol, protocol).cut_if_unfinished(Cut.STOPPED)


async def _start(server: uvicorn.Server, listener: socket.socket) -> None:
    """Begin to listen; uvicorn would end the process where the application can't start."""
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    try:
        await server.startup([listener])
    except SystemExit as error:
        raise RuntimeError("http: the application could not start; the log says why") from error


def _listen(settings: HttpSettings) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _explained(error, settings) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise _explained(error, settings) from error
    return listener


def _explained(error: OSError | UnicodeError, settings: HttpSettings) -> OSError:
    number = errno.EINVAL if isinstance(error, UnicodeError) else error.errno or 0
    reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(number)
    where = f"http: can't listen on host {settings.host}, port {settings.port}: {reason}"
    return OSError(number, where)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
