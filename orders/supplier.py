"""The supplier's MES as the gateway calls it: HTTP, with a key that makes each order at most one.

    POST /api/v1/orders              place; the answer carries number, price, state and place in the queue
    GET  /api/v1/orders?ids=1,2      how orders stand
    POST /api/v1/orders/{id}/cancel  take one back
    GET  /api/v1/queue               what waits and what is made

A try that can't have arrived (no connection, 503) is told apart from one that may have: what the customer is
told depends on it. Tries are repeated with the same key until the deadline, with a growing rest between.
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar

import aiohttp
import msgspec

from orders.errors import (
    NotCancellableError,
    RefusedError,
    SupplierAwayError,
    SupplierBrokenError,
    SupplierError,
    SupplierSlowError,
)
from orders.request import OrderRequest

T = TypeVar("T")

_TRIES: Final = 4
_REST_S: Final = 0.1
_LONGEST_REST_S: Final = 1.0
_LOOK_S: Final = 1.0
_MAX_ANSWER_BYTES: Final = 1 << 20
_CONNECTIONS: Final = 32
_JITTER: Final = random.Random()  # noqa: S311  # no secret: it spreads tries


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """An order as the supplier has it; keys that are not known here are left alone."""

    order_id: int
    product_id: int
    amount: int
    price: int
    state: str
    place: int | None = None
    """In the queue, from 1; None when it stands there no more."""


class Queued(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the supplier's queue."""

    order_id: int
    amount: int
    state: str
    place: int | None = None
    product: str = ""
    received_at: str = ""


class _Queue(msgspec.Struct, frozen=True):
    orders: list[Queued]


class _Orders(msgspec.Struct, frozen=True):
    orders: list[Placed]


class _Problem(msgspec.Struct, frozen=True):
    detail: str = ""
    parameter: str | None = None


class _Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the supplier is sent."""

    user_id: int
    base: str
    amount: int
    drilling: str
    cleaning: str
    pressing: str
    inspection: str


class _Answer(NamedTuple):
    status: int
    body: bytes


class Supplier:
    """The MES at an address; an asynchronous context manager, used on one loop."""

    def __init__(self, url: str, token: str, *, timeout_s: float) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Make the connections' pool."""
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def place(self, key: str, user_id: int, request: OrderRequest, traceparent: str) -> Placed:
        """Place an order; the same key never makes two.

        Raises:
            RefusedError: the supplier will not take it.
            SupplierError: nobody knows, or it has not arrived; see `may_have_arrived`.
        """
        body = msgspec.json.encode(_Order(user_id=user_id, **msgspec.structs.asdict(request)))
        headers = {"Idempotency-Key": key, "traceparent": traceparent}
        answer = await self._insist("POST", "/api/v1/orders", headers, body)
        if answer.status in (HTTPStatus.OK, HTTPStatus.CREATED):
            return _decode(answer, Placed)
        raise RefusedError(*_problem_of(answer))

    async def standing(self, order_ids: Sequence[int]) -> dict[int, Placed]:
        """How these orders stand, as far as the supplier knows them; at most 200.

        Raises:
            SupplierError: it can't be asked just now.
        """
        if not order_ids:
            return {}
        path = f"/api/v1/orders?ids={','.join(map(str, order_ids))}"
        answer = await self._look(path)
        return {placed.order_id: placed for placed in _decode(_good(answer), _Orders).orders}

    async def queue(self, limit: int) -> list[Queued]:
        """What waits and what is made, in order.

        Raises:
            SupplierError: it can't be asked just now.
        """
        answer = await self._look(f"/api/v1/queue?limit={limit}")
        return _decode(_good(answer), _Queue).orders

    async def cancel(self, order_id: int, traceparent: str) -> Placed:
        """Take an order back.

        Raises:
            NotCancellableError: it is too late for that.
            SupplierError: it can't be asked just now.
        """
        path = f"/api/v1/orders/{order_id}/cancel"
        answer = await self._insist("POST", path, {"traceparent": traceparent}, b"")
        if answer.status == HTTPStatus.CONFLICT:
            raise NotCancellableError(_problem_of(answer)[0])
        return _decode(_good(answer), Placed)

    async def _look(self, path: str) -> _Answer:
        """A question that only shows something: one try, and not for long."""
        return await self._ask("GET", path, {}, b"", time.monotonic() + min(_LOOK_S, self._timeout_s))

    async def _insist(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> _Answer:
        """Ask until there is an answer that means something, or the time is over."""
        deadline = time.monotonic() + self._timeout_s
        may_have_arrived = False
        for tried in range(1, _TRIES + 1):
            try:
                return await self._ask(method, path, headers, body, deadline)
            except SupplierError as error:
                may_have_arrived |= error.may_have_arrived
                rest = _rest(tried)
                if tried == _TRIES or time.monotonic() + rest >= deadline or not _again(error):
                    raise type(error)(str(error), may_have_arrived=may_have_arrived) from error
            await asyncio.sleep(rest)
        raise AssertionError

    async def _ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, deadline: float
    ) -> _Answer:
        """One try.

        Raises:
            SupplierError: there is no answer, or one that says to try later.
        """
        session = self._session
        if session is None:
            raise SupplierAwayError("the way to the supplier is not open", may_have_arrived=False)
        timeout = aiohttp.ClientTimeout(total=max(0.01, deadline - time.monotonic()))
        try:
            async with session.request(
                method,
                self._url + path,
                data=body or None,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                answer = _Answer(response.status, await _whole(response.content))
        except aiohttp.ClientConnectorError as error:
            raise SupplierAwayError("the supplier can't be reached", may_have_arrived=False) from error
        except TimeoutError as error:
            raise SupplierSlowError("the supplier did not answer in time", may_have_arrived=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise SupplierAwayError(
                "the connection to the supplier was lost", may_have_arrived=True
            ) from error
        return _meant(answer)


async def _whole(body: aiohttp.StreamReader) -> bytes:
    """All of it, in however many pieces it comes; of one that is too long, as much as there may be."""
    try:
        return await body.readexactly(_MAX_ANSWER_BYTES)
    except asyncio.IncompleteReadError as end:
        return end.partial


def _meant(answer: _Answer) -> _Answer:
    """An answer about the order; what is about the service itself is an error."""
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
        raise SupplierAwayError("the supplier takes no orders just now", may_have_arrived=False)
    if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise SupplierBrokenError("the supplier refused this gateway's token", may_have_arrived=False)
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise SupplierBrokenError(f"the supplier failed ({answer.status})", may_have_arrived=True)
    if answer.status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS):
        raise SupplierAwayError("the supplier takes no orders just now", may_have_arrived=False)
    return answer


def _again(error: SupplierError) -> bool:
    """Whether another try at once may help: not where the gateway itself was refused."""
    return not isinstance(error, SupplierBrokenError) or error.may_have_arrived


def _rest(tried: int) -> float:
    longest = min(_LONGEST_REST_S, _REST_S * 2.0 ** (tried - 1))
    return longest * _JITTER.uniform(0.5, 1.0)


def _good(answer: _Answer) -> _Answer:
    if answer.status != HTTPStatus.OK:
        raise SupplierBrokenError(f"the supplier answered {answer.status}", may_have_arrived=True)
    return answer


def _decode(answer: _Answer, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SupplierBrokenError(
            "the supplier's answer can't be understood", may_have_arrived=True
        ) from error


def _problem_of(answer: _Answer) -> tuple[str, str | None]:
    """What its problem document says."""
    try:
        problem = msgspec.json.decode(answer.body, type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        problem = _Problem()
    return problem.detail[:300] or f"the supplier answered {answer.status}", problem.parameter
