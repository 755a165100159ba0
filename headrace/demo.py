"""`headrace demo`: server, simulated machines and pages at one call, on the embedded database."""

import asyncio

import click
import msgspec

from headrace.config import Config
from headrace.errors import ConfigError, FailedError
from headrace.serve import Running, StartOptions, run_server, until_told
from simulator.run import SimulateOptions, simulate

_FOLDER = "data/demo"


def demo_config() -> Config:
    """The defaults, with data in a folder of the demo's own."""
    config = Config()
    return msgspec.structs.replace(
        config,
        journal=msgspec.structs.replace(config.journal, path=f"{_FOLDER}/journal"),
        storage=msgspec.structs.replace(
            config.storage,
            sqlite=msgspec.structs.replace(config.storage.sqlite, path=f"{_FOLDER}/headrace.db"),
        ),
    )


def any_port(config: Config) -> Config:
    """The same on ports that are free."""
    return msgspec.structs.replace(
        config,
        ingest=msgspec.structs.replace(config.ingest, port=0),
        http=msgspec.structs.replace(config.http, port=0),
    )


async def run_demo(machines: int) -> None:
    """Run until told to stop; where the usual ports are taken, on others."""
    config = demo_config()
    try:
        await _run(config, machines)
    except ConfigError as error:
        if "can't listen" not in str(error):
            raise
        await _run(any_port(config), machines)


async def _run(config: Config, machines: int) -> None:
    async with run_server(config, StartOptions()) as running:
        options = SimulateOptions(host=running.host, port=running.port, devices=machines, rate=2.0)
        simulation = asyncio.create_task(simulate(options, console=None))
        _greet(running, machines)
        stopping = asyncio.create_task(until_told())
        await asyncio.wait({stopping, simulation}, return_when=asyncio.FIRST_COMPLETED)
        click.echo("Stopping ...")
        for task in (stopping, simulation):
            task.cancel()
        _, ended = await asyncio.gather(stopping, simulation, return_exceptions=True)
    if isinstance(ended, Exception):
        raise FailedError(f"the simulated machines ended: {ended}") from ended


def _greet(running: Running, machines: int) -> None:
    click.echo(f"{machines} simulated machines are sending to {running.host}:{running.port}.")
    click.echo(f"Look at them:  {running.url}")
    click.echo("Ctrl-C stops everything. The data stays in data/demo.")
