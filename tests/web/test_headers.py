"""Headers and paths that nobody should send: whatever stands in them, no answer is an error of ours."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Final

import pytest

from orders.logs.base import Level
from tests.web.desk import CUSTOMER, ORDERS, PASSWORD, Desk
from tests.web.test_limits import connected

pytestmark = pytest.mark.fault

_READ_BY_SOMEBODY: Final = [
    *("Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Connection", "Content-Encoding"),
    *("Content-Length", "Content-Type", "Cookie", "Expect", "Host", "Idempotency-Key", "If-Modified-Since"),
    *("If-None-Match", "If-Range", "Last-Event-ID", "Origin", "Range", "Sec-Fetch-Site", "Transfer-Encoding"),
    *("Upgrade", "X-CSRF-Token", "X-Forwarded-For", "traceparent"),
]
_VALUES: Final = [
    *(b"", b",", b";", b"=", b";,=", b'"', b"\\", b"%", b"%00", b"\xff\xfe", b"\xc3\xa9", b"*", b"a" * 8_000),
    *(b"-1", b"1.5", b"1e999", b"9" * 20, b"x; q=y", b"*/*; q=", b"text/html; q=1e999", b"*/*; q=-inf"),
    *(b"application/openmetrics-text; version=x", b"application/json; charset=x", b"gzip;q=0, *;q=x"),
    *(b"bytes=0-", b"bytes=9-1", b"bytes=a-b", b"Basic !", b"Basic Og==", b"Bearer", b"Bearer \xff", b"[::1"),
    *(b"[x]", b"[", b"http://[", b"localhost:99999", b"localhost:x", b"x@localhost", b"localhost/x", b"a b"),
    *(b"Thu, 99 Foo", b'W/"', b"chunked, x", b"h2c", b"00-0-0-zz", b"headrace_session=\xff", b"a=b; c"),
]
_ASKED: Final = ["GET /", "GET /nowhere", "GET /metrics", "GET /api/v1/devices", f"POST {ORDERS}"]
_PATHS: Final = [
    *(
        "/%",
        "/%ff",
        "/%00",
        "/%2F%2f",
        "//",
        "//x",
        "/[",
        "/static/%2e%2e/x",
        "/static//",
        "/static/",
        "/?" + "&" * 9,
    ),
    *(
        "/?%ff=%",
        "/;",
        "*",
        "http://[/",
        "http://localhost:x/",
        "x",
        "/machines/%F0%9F%98%80",
        "/machines/%C3",
    ),
    *("/api/v1/devices/%/latest", "/api/v1/devices/%00/latest", "/api/v1/orders/%2F..", "/" + "a/" * 3_000),
]


def _with_headers() -> Iterator[bytes]:
    for asked, name, value in product(_ASKED, _READ_BY_SOMEBODY, _VALUES):
        fields = {"Host": b"localhost", "Connection": b"close"}
        if asked.startswith("POST"):
            fields |= {"Content-Type": b"application/json", "Content-Length": b"2"}
        lines = [b"%b: %b\r\n" % (key.encode(), said) for key, said in (fields | {name: value}).items()]
        yield b"%b HTTP/1.1\r\n%b\r\n{}" % (asked.encode(), b"".join(lines))


def _with_paths() -> Iterator[bytes]:
    for method, path in product(("GET", "HEAD", "POST", "OPTIONS", "DELETE"), _PATHS):
        yield f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


@pytest.mark.parametrize("requests", [_with_headers, _with_paths])
async def test_no_answer_is_an_error_of_ours(
    desk: Desk, requests: Callable[[], Iterator[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    """Refused or passed over; nothing fails, and nothing is said of it in the process' own log."""
    await desk.counter.add_user(CUSTOMER, "customer", password=PASSWORD)
    wrong = []
    async with desk.open():
        for data in requests():
            async with connected(desk) as line:
                line.send(data)
                status = await line.status()
            if status >= 500:
                wrong.append((status, data[:120]))
    assert not wrong
    assert not caplog.records
    assert not [row for row in await desk.all_rows() if row.level in (Level.ERROR, Level.FATAL)]
