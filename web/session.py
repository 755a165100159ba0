"""Logging in and out: a session of a person, in a cookie that scripts can't read.

The cookie is SameSite=Strict and lives as long as the session; over HTTPS (behind a proxy that says so in the
configuration) it is Secure too, and its name says so, which browsers see to.
"""

from http import HTTPStatus
from typing import Annotated, Final, NamedTuple, TypeAlias

import msgspec
from litestar import Response, Router, delete, get, post
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, SkipValidation

from orders.accounts.errors import LockedOutError, TooManyLoginsError
from orders.accounts.errors import NotAuthenticatedError as WrongPasswordError
from orders.accounts.principal import Principal
from orders.accounts.security import SecurityController
from web.bodies import read_body
from web.identity import COOKIE, SECURE_COOKIE, NotAuthenticatedError, caller, cookie_of
from web.problems import PROBLEM_HANDLERS, AnyRequest, Problem, ProblemError, TooManyError

_MAX_NAME: Final = 64
_MAX_PASSWORD: Final = 256

Security: TypeAlias = NamedDependency[SkipValidation[SecurityController | None]]


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who wants in."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=_MAX_NAME)]
    password: Annotated[str, msgspec.Meta(min_length=1, max_length=_MAX_PASSWORD)]


class CookieMaker(NamedTuple):
    """How the session's cookie is made."""

    secure: bool
    """Whether it is sent over HTTPS only."""

    session_s: float
    """How long a login lasts."""

    @property
    def name(self) -> str:
        """Of the cookie."""
        return SECURE_COOKIE if self.secure else COOKIE

    def cookie(self, secret: str) -> Cookie:
        """With a secret for as long as a login; without one it is gone."""
        return Cookie(
            key=self.name,
            value=secret,
            max_age=round(self.session_s) if secret else 0,
            httponly=True,
            samesite="strict",
            secure=self.secure,
        )


SessionCookie: TypeAlias = NamedDependency[SkipValidation[CookieMaker]]


class Who(msgspec.Struct, frozen=True):
    """Who asks, and what they may."""

    name: str
    permissions: list[str]
    csrf: str | None
    """To be sent as `X-CSRF-Token` with whatever changes something; None where that is not needed."""


@post(
    "/session",
    status_code=HTTPStatus.OK,
    summary="Log in",
    responses={401: ResponseSpec(Problem), 429: ResponseSpec(Problem)},
)
async def log_in(
    data: JSONBody[Login], request: AnyRequest, security: Security, session_cookie: SessionCookie
) -> Response[Who]:
    """A session, in the cookie `headrace_session`; behind HTTPS in `__Host-headrace_session`."""
    if security is None:
        raise ProblemError(HTTPStatus.CONFLICT, "this server has no login: everybody may do everything")
    await read_body(request, Login)
    address = request.client.host if request.client else ""
    try:
        secret, principal = await security.login(data.name, data.password, address)
    except WrongPasswordError as error:
        raise NotAuthenticatedError("name or password is wrong") from error
    except LockedOutError as error:
        raise _TooOftenError(error.retry_after_s) from error
    except TooManyLoginsError as error:
        raise TooManyError from error
    return Response(_who(principal), cookies=[session_cookie.cookie(secret)])


@delete(
    "/session",
    summary="Log out",
    status_code=HTTPStatus.NO_CONTENT,
    responses={204: ResponseSpec(None, description="Nobody is logged in (any more)")},
)
async def log_out(request: AnyRequest, security: Security, session_cookie: SessionCookie) -> Response[None]:
    """The session ends; without one nothing happens."""
    secret = cookie_of(request.headers.get("cookie", "").encode("latin-1"), session_cookie.name)
    if security is not None and secret:
        await security.logout(secret)
    return Response(None, cookies=[session_cookie.cookie("")], status_code=HTTPStatus.NO_CONTENT)


@get("/session", summary="Who asks", responses={401: ResponseSpec(Problem)})
async def who_asks(request: AnyRequest) -> Who:
    """The caller's name and permissions."""
    return _who(caller(request.scope))


def session_router() -> Router:
    """All of the above; it needs the dependencies `security` and `session_cookie`."""
    return Router(
        "/",
        route_handlers=[log_in, log_out, who_asks],
        exception_handlers=PROBLEM_HANDLERS,
        tags=["Session"],
    )


class _TooOftenError(ProblemError):
    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            HTTPStatus.TOO_MANY_REQUESTS,
            "too many wrong passwords; wait and try again",
            headers={"Retry-After": str(max(1, round(retry_after_s)))},
        )


def _who(principal: Principal) -> Who:
    return Who(principal.name, sorted(principal.permissions), principal.csrf)
