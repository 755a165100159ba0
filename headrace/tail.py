"""`headrace tail`: records as they arrive, from the event stream of a running server.

Where the server has a login, the token is in `HEADRACE_TOKEN`: a command's arguments can be read by everybody
on the machine.
"""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import aiohttp
import click
import msgspec

from headrace.errors import FailedError
from parser.settings import VALUES

_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5, sock_read=60)

TOKEN: Final = "HEADRACE_TOKEN"  # noqa: S105  # the name of a variable

_REFUSED: Final = {
    HTTPStatus.UNAUTHORIZED: f"wants a token: make one (headrace token create) and put it into {TOKEN}",
    HTTPStatus.FORBIDDEN: f"the user of the token in {TOKEN} may not read telemetry (headrace user roles)",
}


class _Frame(msgspec.Struct):
    missed: int
    records: list[msgspec.Raw]


class _Record(msgspec.Struct):
    device_id: str
    received_at: str
    spindle_temperature_c: float
    spindle_speed_rpm: float
    coolant_flow_lpm: float
    power_kw: float
    voltage_v: float


async def tail(url: str, device: str | None, token: str, *, as_json: bool) -> None:
    """Print records until interrupted or the server ends.

    Raises:
        FailedError: there is no server there, or it refuses.
    """
    target = f"{url}/api/v1/stream" + (f"?device={quote(device, safe='')}" if device else "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT, headers=headers) as session,
            session.get(target) as answer,
        ):
            if answer.status in _REFUSED:
                raise FailedError(f"{url}: {_REFUSED[HTTPStatus(answer.status)]}")
            if answer.status != HTTPStatus.OK:
                raise FailedError(f"{url}: answered {answer.status} {answer.reason}")
            if not as_json:
                click.echo("  ".join(["received_at".ljust(24), "device_id".ljust(12), *VALUES]))
            async for frame in _frames(answer.content):
                _print(frame, as_json=as_json)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise FailedError(f"{url}: no server answers there ({error}); is headrace serve running?") from error
    except asyncio.CancelledError:
        return


async def _frames(content: aiohttp.StreamReader) -> AsyncIterator[_Frame]:
    decoder = msgspec.json.Decoder(_Frame)
    buffer = b""
    async for piece in content.iter_any():
        *lines, buffer = (buffer + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                yield decoder.decode(line[6:])


def _print(frame: _Frame, *, as_json: bool) -> None:
    if frame.missed:
        click.echo(f"({frame.missed} records came faster than they were read)", err=True)
    for raw in frame.records:
        click.echo(bytes(raw).decode() if as_json else _row(msgspec.json.decode(raw, type=_Record)))


def _row(record: _Record) -> str:
    numbers = [f"{getattr(record, name):{len(name)}.6g}" for name in VALUES]
    return "  ".join([record.received_at.ljust(24), record.device_id.ljust(12), *numbers])
