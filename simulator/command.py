"""`headrace simulate`: simulated machines, or prepared records as fast as the socket takes them.

Exit status 0: all went as planned, an interrupt included; 1: the server can't be reached, or did not
acknowledge everything; 2: the call was wrong.
"""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Final

import click
import uvloop
from click.core import ParameterSource
from rich.console import Console

from simulator import blast
from simulator.encryption import client_context
from simulator.errors import SimulatorError
from simulator.options import MAX_CONNECTIONS, MAX_DEVICES, USUAL_CONNECTIONS, Scenario, SimulateOptions
from simulator.run import allow_connections
from simulator.run import simulate as run
from simulator.truth import Truth

PREPARED_RECORDS: Final = 100_000
BLAST_CONNECTIONS: Final = 4

PACED: Final = frozenset(
    {
        *("rate", "burst", "scenario", "storm_every_s", "byte_gap_s", "resend", "numbered"),
        *("connect_timeout_s", "finish_timeout_s", "truth"),
    }
)
"""Options that mean nothing to a blast."""

COUNT: Final = click.IntRange(min=0)
SECONDS: Final = click.FloatRange(min=0)
SHARE: Final = click.FloatRange(0, 1)
PEM: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
POSITIVE: Final = click.FloatRange(min=0, min_open=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--host", default="127.0.0.1", help="Where the server listens.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=9400,
    help="On which port; with --ack that of the server's acknowledging listener.",
)
@click.option(
    "--devices",
    type=click.IntRange(1, MAX_DEVICES),
    default=20,
    help="How many machines: E0001, E0002 and so on.",
)
@click.option("--rate", type=POSITIVE, default=10.0, help="Records per second of each machine, in Hz.")
@click.option("--duration", "duration_s", type=SECONDS, help="Stop after so many seconds.")
@click.option("--records", type=COUNT, help="Stop after so many records of all machines together.")
@click.option(
    "--connections",
    type=click.IntRange(1, MAX_CONNECTIONS),
    help="TCP connections, shared by the machines.  "
    f"[default: one each, up to {USUAL_CONNECTIONS}; {BLAST_CONNECTIONS} with --blast]",
)
@click.option(
    "--burst",
    type=click.IntRange(1, 1_000_000),
    default=1,
    help="Records that a connection sends in one packet.",
)
@click.option("--seed", type=int, default=1, help="The same seed, devices and rate make the same records.")
@click.option(
    "--scenario",
    type=click.Choice([scenario.value for scenario in Scenario]),
    default=Scenario.NORMAL.value,
    help="split: packets cut at random places. garbage: a share of malformed records. storm: all connections "
    "close and come back together. slow: one byte at a time. cut: connections end within a record or "
    "without the last delimiter.",
)
@click.option(
    "--malformed",
    type=SHARE,
    help="Share of malformed records, 0 to 1.  [default: 0, with --scenario garbage 0.1]",
)
@click.option(
    "--storm-every",
    "storm_every_s",
    type=click.FloatRange(min=0.01),
    default=1.0,
    help="Seconds between two reconnects, with --scenario storm.",
)
@click.option(
    "--byte-gap",
    "byte_gap_s",
    type=SECONDS,
    default=0.01,
    help="Seconds between two bytes of a connection, with --scenario slow.",
)
@click.option("--ack", is_flag=True, help="Read acknowledgements, and wait for the last one at the end.")
@click.option(
    "--resend", is_flag=True, help="After a lost connection send again what it left unacknowledged."
)
@click.option(
    "--numbered", is_flag=True, help="Send running numbers as speed, and list all records in the truth."
)
@click.option(
    "--connect-timeout",
    "connect_timeout_s",
    type=POSITIVE,
    default=5.0,
    help="Seconds that making a connection may take.",
)
@click.option(
    "--finish-timeout",
    "finish_timeout_s",
    type=SECONDS,
    default=10.0,
    help="Seconds that the end may take: the last records, acknowledgements, closing.",
)
@click.option(
    "--truth",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the truth to this JSON file: records, energy and times per state of each machine.",
)
@click.option("--tls-ca", type=PEM, help="Speak TLS with a server whose certificate is from this authority.")
@click.option("--tls-cert", type=PEM, help="With --tls-ca: the certificate to show, on all connections.")
@click.option("--tls-key", type=PEM, help="Its key, unless that is in the same file.")
@click.option(
    "--blast",
    "blasts",
    is_flag=True,
    help="Send prepared records as fast as the sockets take them, for --duration or --records; without "
    f"either, {PREPARED_RECORDS:,} records.",
)
@click.option("--per-packet", is_flag=True, help="With --blast: each record in a packet of its own.")
@click.pass_context
def simulate(context: click.Context, /, **_given: object) -> None:
    """Send telemetry of simulated machines to a server."""
    _check(context)
    try:
        if context.params["blasts"]:
            _blast(context)
        else:
            _simulate(context)
    except SimulatorError as error:
        click.echo(f"headrace: {error}", err=True)
        sys.exit(1)


def _check(context: click.Context) -> None:
    """Refuse options that don't belong together."""
    given = {name for name in context.params if _was_given(context, name)}
    blasts = "blasts" in given
    if blasts and (wrong := sorted(given & PACED)):
        raise click.UsageError(f"{_flag(context, wrong[0])} means nothing with --blast")
    if not blasts and "per_packet" in given:
        raise click.UsageError("--per-packet needs --blast")
    if given & {"tls_cert", "tls_key"} and "tls_ca" not in given:
        raise click.UsageError("--tls-cert and --tls-key need --tls-ca")
    truth: Path | None = context.params["truth"]
    if truth is not None and not truth.absolute().parent.is_dir():
        raise click.UsageError(f"--truth: there is no folder {truth.parent}")


def _was_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _flag(context: click.Context, name: str) -> str:
    return next(option.opts[0] for option in context.command.params if option.name == name)


def _simulate(context: click.Context) -> None:
    names = SimulateOptions.__struct_fields__
    chosen = {name: value for name, value in context.params.items() if name in names and value is not None}
    chosen["scenario"] = Scenario(chosen["scenario"])
    try:
        options = SimulateOptions(**chosen)
    except ValueError as error:
        raise click.UsageError(f"--{error}") from error
    truth = uvloop.run(_until_interrupted(options))
    click.echo(summary(truth, ack=options.ack))
    if options.ack and (missing := truth.totals.unacknowledged):
        click.echo(f"headrace: {missing:,} records were not acknowledged", err=True)
        sys.exit(1)


async def _until_interrupted(options: SimulateOptions) -> Truth:
    """End in good order at the first SIGINT or SIGTERM, at once at the second."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def interrupt() -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    return await run(options, console=Console(stderr=True), stop=stop)


def summary(truth: Truth, *, ack: bool) -> str:
    """What a run came to, in one line."""
    totals = truth.totals
    parts = [
        f"{totals.sent:,} records sent in {truth.elapsed_s:.1f} s",
        f"over {totals.connections:,} connections",
        f"({totals.valid:,} valid, {totals.invalid:,} malformed, {totals.empty:,} empty)",
    ]
    parts += [f"{totals.acknowledged:,} acknowledged"] if ack else []
    parts += [f"{totals.again:,} sent again"] if totals.again else []
    parts += [f"{totals.lost:,} connections lost"] if totals.lost else []
    return f"{parts[0]} {parts[1]} {parts[2]}" + "".join(f"; {part}" for part in parts[3:])


def _blast(context: click.Context) -> None:
    given = context.params
    connections: int = given["connections"] or BLAST_CONNECTIONS
    allow_connections(connections)
    prepared = blast.prepare(given["devices"], PREPARED_RECORDS, given["seed"], given["malformed"] or 0.0)
    result = blast.send(
        given["host"],
        given["port"],
        prepared,
        connections=connections,
        records=given["records"],
        duration_s=given["duration_s"],
        per_packet=given["per_packet"],
        ack=given["ack"],
        tls=client_context(given["tls_ca"], given["tls_cert"], given["tls_key"]) if given["tls_ca"] else None,
    )
    rate = result.sent / result.seconds if result.seconds else 0.0
    click.echo(
        f"{result.sent:,} records sent in {result.seconds:.2f} s: {rate:,.0f} records/s, "
        f"{result.cpu_seconds:.2f} s of CPU"
        + (f"; {result.acknowledged:,} acknowledged" if given["ack"] else "")
    )
    if given["ack"] and result.acknowledged < result.sent:
        click.echo(f"headrace: {result.sent - result.acknowledged:,} records were not acknowledged", err=True)
        sys.exit(1)
