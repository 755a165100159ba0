"""`headrace demo`: server, simulated machines, supplier and pages at one call, on the embedded database.

There is no login, so it listens on loopback only, and says so.
"""

import asyncio
import secrets
from typing import Final

import click
import msgspec

from headrace.config import Config
from headrace.errors import ConfigError, FailedError
from headrace.mes import run_mes
from headrace.serve import Running, Stop, run_server, stopping
from headrace.starting import StartOptions
from simulator.run import SimulateOptions, simulate

_FOLDER: Final = "data/demo"
_PIECE_S: Final = 0.5
"""The supplier of the demo takes so long for a piece."""


def demo_config() -> Config:
    """The defaults, with data in a folder of the demo's own."""
    config = Config()
    replace = msgspec.structs.replace
    return replace(
        config,
        http=replace(config.http, login=False),
        orders=replace(config.orders, path=f"{_FOLDER}/orders.db"),
        log=replace(config.log, path=f"{_FOLDER}/log.db"),
        mes=replace(config.mes, path=f"{_FOLDER}/mes.db", port=0, piece_s=_PIECE_S),
        journal=replace(config.journal, path=f"{_FOLDER}/journal"),
        storage=replace(
            config.storage,
            sqlite=replace(config.storage.sqlite, path=f"{_FOLDER}/headrace.db"),
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
    with stopping() as stop:
        try:
            await _run(config, machines, stop)
        except ConfigError as error:
            if "can't listen" not in str(error):
                raise
            await _run(any_port(config), machines, stop)


async def _run(config: Config, machines: int, stop: Stop) -> None:
    token = secrets.token_hex(32)
    async with run_mes(config.mes, token) as mes_url:
        orders = msgspec.structs.replace(config.orders, mes_url=mes_url)
        await _run_server(msgspec.structs.replace(config, orders=orders), token, machines, stop)


async def _run_server(config: Config, token: str, machines: int, stop: Stop) -> None:
    async with run_server(config, StartOptions(mes_token=token)) as running:
        options = SimulateOptions(host=running.host, port=running.port, devices=machines, rate=2.0)
        simulation = asyncio.create_task(simulate(options, console=None))
        _greet(running, machines)
        told = asyncio.create_task(stop.wait())
        await asyncio.wait({told, simulation}, return_when=asyncio.FIRST_COMPLETED)
        click.echo("Stopping ...")
        for task in (told, simulation):
            task.cancel()
        _, ended = await asyncio.gather(told, simulation, return_exceptions=True)
    if isinstance(ended, Exception):
        raise FailedError(f"the simulated machines ended: {ended}") from ended


def _greet(running: Running, machines: int) -> None:
    click.echo(f"{machines} simulated machines are sending to {running.host}:{running.port}.")
    click.echo(f"Look at them:  {running.url}")
    click.echo(f"Order something from the simulated supplier:  {running.url}/order")
    click.echo("There is no login: whoever is on this machine may do everything. Nobody else can reach it.")
    click.echo("Ctrl-C stops everything. The data stays in data/demo.")
