"""Headers, paths and bodies that nobody should send: whatever stands in them, it is no error of ours."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Final

import pytest
from structlog.testing import capture_logs

from orders.logs.base import Level
from tests.web.desk import CUSTOMER, ORDERS, PASSWORD, SESSION, Desk
from tests.web.test_limits import connected
from web.frame import _CHARTS_PATH, _STATIC_PATH

pytestmark = pytest.mark.fault

_HEAD: Final = b"Host: localhost\r\nConnection: close\r\n"

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
    *(b"," * 15_000, b";" * 15_000, b"100-continue"),
]
_ASKED: Final = ["GET /", "GET /nowhere", "GET /metrics", "GET /api/v1/devices", f"POST {ORDERS}"]
_PATHS: Final = f"""
    /% /%ff /%00 /%2F%2f // //x /[ /; * x http://[/ http://localhost:x/ /?%ff=% /?{"&" * 9} /{"a/" * 3_000}
    /?{"a=" * 6_000} /static/ /static// /static/%2e%2e/x {_STATIC_PATH} {_STATIC_PATH}/ {_STATIC_PATH}/%00
    {_STATIC_PATH}/{"a" * 300} {_STATIC_PATH}/frame.css/x {_STATIC_PATH}/..%2f..%2fapp.py {_CHARTS_PATH}/
    /machines/%F0%9F%98%80 /machines/%C3 /machines/{"%F0%9F%98%80" * 1_300} /api/v1/devices/%/latest
    /api/v1/devices/%00/latest /api/v1/orders/%2F..
""".split()
_BODIES: Final = [
    *(
        b'{"name":"\xff","password":"x"}',
        b'{"name":"\xff\xfe',
        b"\xff",
        b'"\\ud800"',
        b"[" * 60_000,
        b"1" * 60_000,
    ),
    *(b"1e99999", b"\xef\xbb\xbf{}", b"{}{}", b"\0"),
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
        yield b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode(), path.encode(), _HEAD)


def _with_bodies() -> Iterator[bytes]:
    for body in _BODIES:
        fields = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        yield b"POST %b HTTP/1.1\r\n%b%b\r\n%b" % (SESSION.encode(), _HEAD, fields, body)


@pytest.mark.parametrize("requests", [_with_headers, _with_paths, _with_bodies])
async def test_no_answer_is_an_error_of_ours(
    desk: Desk,
    requests: Callable[[], Iterator[bytes]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Refused or passed over; nothing fails, and nothing is said of it in the process' own log."""
    monkeypatch.setattr("web.figures.SHARED_S", 0.0)
    await desk.counter.add_user(CUSTOMER, "customer", password=PASSWORD)
    wrong = []
    with capture_logs() as said:
        async with desk.open():
            for data in requests():
                async with connected(desk) as line:
                    line.send(data)
                    status = await line.status()
                if status >= 500:
                    wrong.append((status, data[:120]))
    assert not wrong
    assert not caplog.records
    assert "request_failed" not in [line["event"] for line in said]
    assert not [row for row in await desk.all_rows() if row.level in (Level.ERROR, Level.FATAL)]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/machines/" + "E" * 1_100, 414),
        ("/machines/" + "E" * 900, 303),
        ("/api/v1/devices?" + "a" * 8_200, 414),
        ("/api/v1/devices?" + "a" * 8_000, 401),
    ],
)
async def test_addresses_longer_than_any_of_ours_go_no_further(desk: Desk, path: str, status: int) -> None:
    """What the router remembers of strangers is small."""
    async with desk.open():
        answer = await desk.ask("GET", path, {"Accept": "application/json"})
    assert answer.status == status


async def test_who_goes_before_a_streamed_answer_is_no_error(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """The body breaks off when the answer has begun, and the answer is a file that goes out in pieces."""
    async with desk.open(), connected(desk) as line:
        path = f"{_CHARTS_PATH}/bokeh.min.js".encode()
        line.send(b"GET %b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" % path)
        await line.closed()
        assert (await desk.ask("GET", "/healthz")).status == 200
    assert not caplog.records
