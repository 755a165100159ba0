"""What the order side of the application works with, and the log of what it refused.

Every request that was refused or failed is a row of the log. A stranger can send any number of those, so
no more than some hundred a minute are written one by one; the others are counted and said together.
"""

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, NamedTuple

from litestar.types import Scope

from orders.accounts.principal import Principal
from orders.accounts.security import SecurityController
from orders.facade import AmpFacade
from orders.logs.base import LogStore
from orders.sparing import Sparing
from orders.speaking import Speaker
from web.problems import ProblemError, status_of

_IN_A_MINUTE: Final = 600
_USUAL: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.NOT_ACCEPTABLE})
_OURS: Final = frozenset({HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY})
"""What somebody who runs the gateway has to look at; that others are away passes."""


class Office(NamedTuple):
    """The order gateway's parts."""

    security: SecurityController | None
    """None: there is no login."""

    facade: AmpFacade
    logs: LogStore
    log: Speaker
    """Where refusals are told."""


class Refusals:
    """Tells the log what was refused, so many a minute."""

    def __init__(self, log: Speaker, now: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._now = now
        self._sparing = Sparing(_IN_A_MINUTE)

    async def note(self, error: Exception, scope: Scope) -> None:
        """A request ended with this error."""
        status = status_of(error)
        if status in _USUAL or _is_way_in(status, scope) or not self._may_tell():
            return
        principal: Principal | None = scope.get("user")
        failed = status in _OURS
        say = self._log.error if failed else self._log.warning
        say(
            "Request failed" if failed else "Request was refused",
            user_id=principal.name if principal else "",
            method=scope.get("method"),
            path=scope["path"],
            status=int(status),
            reason=_reason(error),
        )

    def _may_tell(self) -> bool:
        if not self._sparing.lets(int(self._now() * 1_000)):
            return False
        if count := self._sparing.left_out():
            self._log.warning("Refused requests were not written one by one", count=count)
        return True


def _is_way_in(status: HTTPStatus, scope: Scope) -> bool:
    """A person who opens a page before logging in is sent to the login, and nothing else has happened."""
    return status == HTTPStatus.UNAUTHORIZED and not scope["path"].startswith("/api/")


def _reason(error: Exception) -> str:
    """In the words of the answer; what is ours to know stays in the server's own log."""
    return error.problem.detail if isinstance(error, ProblemError) else type(error).__name__
