"""Bounds that uvicorn doesn't have: a request must arrive, and its answer be taken, in time; and places.

The header deadline runs whenever the client owes us the rest of a request, its body too: from the first byte
of the connection's first request (from connecting, in fact), and from the first byte of each later one. It
doesn't start anew with each byte, so sending one byte a second gains nothing. Between two requests the
keep-alive timeout is in charge. The stall deadline runs while bytes wait for the client that the kernel
doesn't take.

Whoever sends what is no HTTP gets 400, or is cut where it has its answer already. When the server stops,
answers under way have `stop_timeout_s` to be taken.

Places are counted here and not by uvicorn's `limit_concurrency`: that one answers with 503 who sends a
request, and keeps everybody who doesn't.
"""

import asyncio
import logging
from typing import Final

import h11
import uvicorn
from litestar.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from web.places import Cut, Places
from web.settings import HttpLimits

_PIECE_BYTES: Final = 4 * 1024

_BACKLOG: Final = 128
"""As many may a loop accept in one turn, before any of them is looked at; uvloop accepts one."""

_OWED: Final = frozenset({h11.IDLE, h11.SEND_BODY})
"""States of the client in which its request isn't complete."""

_TO_CANCEL_S: Final = 1
"""For handlers to see that their client was cut, before uvicorn cancels them with a traceback each."""

logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a line for each bad request; they are counted


class LimitedConfig(uvicorn.Config):
    """uvicorn's configuration for our loop, with our limits."""

    def __init__(self, app: ASGIApp, limits: HttpLimits, places: Places) -> None:
        super().__init__(
            app,
            http=DeadlineProtocol,
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=limits.keep_alive_s,
            timeout_graceful_shutdown=limits.stop_timeout_s + _TO_CANCEL_S,
            h11_max_incomplete_event_size=limits.max_header_bytes,
        )
        self.limits = limits
        self.places = places


class DeadlineProtocol(H11Protocol):
    """HTTP/1.1 on one connection, closed when the client lets us wait too long."""

    def __init__(
        self,
        config: LimitedConfig,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = config.limits
        self._places = config.places
        self._host: str | None = None
        self._is_cut = False
        self._request_due: asyncio.TimerHandle | None = None
        self._answer_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Wait for the first request, if there is a place; uvicorn never hears of who gets none."""
        peer = transport.get_extra_info("peername")
        host = str(peer[0]) if peer else ""  # gone already
        if not self._places.enter(host):
            transport.abort()
            return
        self._host = host
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # or a few bytes that nobody takes would never be due
        self._watch_request()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the deadline stands until they make a whole request.

        The limit of headers is looked at where they are incomplete, so many bytes at once would pass it.
        """
        for begin in range(0, len(data), _PIECE_BYTES):
            if not self.transport.is_closing():
                super().data_received(data[begin : begin + _PIECE_BYTES])
        self._watch_request()

    def on_response_complete(self) -> None:
        """Wait for the next request, of which a part may be here already: bytes, or all but its body."""
        super().on_response_complete()
        if self.conn.trailing_data[0] or self.conn.their_state is h11.SEND_BODY:
            self._watch_request()

    def pause_writing(self) -> None:
        """Begin to count the time in which the client takes nothing."""
        super().pause_writing()
        self._answer_due = self.loop.call_later(self._limits.stall_timeout_s, self.cut, Cut.NOT_TAKEN)

    def resume_writing(self) -> None:
        """The client took something."""
        super().resume_writing()
        _cancel(self._answer_due)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of all timers, and of the place.

        uvicorn keeps its own after a reset, and with it a few KiB of each stranger until that is over.
        """
        if self._host is None:
            return
        self._places.leave(self._host)
        _cancel(self._request_due)
        _cancel(self._answer_due)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or cut where an answer is there already; who still answers it hears so."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self._may_answer():
            self._count_cut(Cut.NO_HTTP)
            super().send_400_response(msg)
        else:
            self.cut(Cut.NO_HTTP)

    def _may_answer(self) -> bool:
        """Whether an answer with a body can begin; one to HEAD has none."""
        state = self.conn.our_state
        return state is h11.IDLE or (state is h11.SEND_RESPONSE and self.scope["method"] != "HEAD")

    def cut_if_unfinished(self, why: Cut) -> None:
        """End it if something waits for it to be taken, or for the rest of its request."""
        if self.flow.write_paused or self.conn.their_state is h11.SEND_BODY:
            self.cut(why)

    def cut(self, why: Cut) -> None:
        """End it at once, whatever still waits to be sent."""
        self._count_cut(why)
        self.transport.abort()

    def _count_cut(self, why: Cut) -> None:
        """Once: also of one that is being ended, and does not come to its end."""
        if not self._is_cut:
            self._is_cut = True
            self._places.cut(why)

    def _watch_request(self) -> None:
        """Set the deadline if the client owes us something, and take it off if not."""
        if self.transport.is_closing() or self.conn.their_state not in _OWED:
            _cancel(self._request_due)
            self._request_due = None
        elif self._request_due is None:
            due = self._limits.header_timeout_s
            self._request_due = self.loop.call_later(due, self.cut, Cut.NO_REQUEST)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
