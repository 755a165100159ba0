"""A run of the simulator, from the first connection to the truth about it."""

import asyncio
import resource
from typing import Final

from rich.console import Console

from simulator.client import Client
from simulator.options import SimulateOptions
from simulator.progress import showing
from simulator.truth import Truth

__all__ = ["SimulateOptions", "allow_connections", "simulate"]

OTHER_FILES: Final = 64
"""Open files that a process needs beside its connections."""


async def simulate(
    options: SimulateOptions, *, console: Console | None = None, stop: asyncio.Event | None = None
) -> Truth:
    """Run simulated machines against a server.

    When it is cancelled it still ends in good order, within `options.finish_timeout_s`, and writes the
    truth; a caller that wants the truth as well sets `stop` instead.

    Args:
        options: what the run is to be like.
        console: where to show the progress; None shows nothing.
        stop: ends the run when it is set.

    Returns:
        the truth, also written to `options.truth` where that is set

    Raises:
        UnreachableError: nobody listens there.
        AcknowledgementError: the server acknowledged what it cannot have; the truth is written first.
        OSError: the truth cannot be written.
    """
    allow_connections(options.lines)
    client = Client(options)
    try:
        await client.connect()
        async with showing(console, options, client.statistics):
            try:
                await _pace(client, stop or asyncio.Event())
            finally:
                await client.end()
    finally:
        await client.give_up()
        truth = client.truth()
        if options.truth is not None and truth.links:
            truth.write(options.truth)
    if client.error is not None:
        raise client.error
    return truth


def allow_connections(connections: int) -> None:
    """Raise this process's limit of open files, as far as it may, if it is too low for so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


async def _pace(client: Client, stop: asyncio.Event) -> None:
    """Send until everything is sent or it is to stop."""
    loop = asyncio.get_running_loop()
    pacing, stopping = loop.create_task(client.pace()), loop.create_task(stop.wait())
    try:
        await asyncio.wait([pacing, stopping], return_when=asyncio.FIRST_COMPLETED)
        if pacing.done():
            pacing.result()
    finally:
        pacing.cancel()
        stopping.cancel()
        await asyncio.wait([pacing, stopping])
