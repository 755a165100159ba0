"""The command line. Exit status 0: good, 1: it failed, 2: the call or the configuration was wrong."""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import click
import uvloop

from benchmarks.command import bench
from headrace import accounts, cert, checking, databases
from headrace import demo as demo_
from headrace import mes as mes_
from headrace import quarantine as quarantine_
from headrace import reconcile as reconcile_
from headrace import tail as tail_
from headrace.calling import config_option, log_option, reporting_errors
from headrace.config import Config, load_config, source_of
from headrace.errors import ConfigError, FailedError
from headrace.logs import LogFormat, configure_logs, set_level
from headrace.reload import Reloader, hangups, ignore_hangups, reloading
from headrace.serve import Running, run_server, stopping
from headrace.starting import StartOptions
from headrace.workers.plan import MAX_WORKERS
from headrace.workers.serve import run_workers
from simulator.command import simulate
from storage.factory import described, open_quarantine
from storage.sqlite.backup import backup

_PRIVATE: Final = 0o077
"""What others may not, of all that any command makes. A database makes files of its own beside those it is
given, so this is said once for the whole process, and for the sinks, which inherit it."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headrace")
@click.pass_context
def main(context: click.Context) -> None:
    """Carry telemetry from shop-floor machines into a database, no record lost."""
    context.call_on_close(partial(os.umask, os.umask(_PRIVATE)))


main.add_command(simulate)
main.add_command(bench)
main.add_command(accounts.user)
main.add_command(accounts.token)
main.add_command(cert.cert)


@main.command()
@config_option
@click.option("--adopt-node", is_flag=True, help="Take the node id over from a journal that is lost.")
@click.option("--accept-clock", is_flag=True, help="The clock is right, although it seems to have jumped.")
@click.option(
    "--workers",
    type=click.IntRange(2, MAX_WORKERS),
    help="Take data in so many processes, each with a node id and a journal of its own.",
)
@log_option
@reporting_errors
def serve(
    config_path: Path | None,
    adopt_node: bool,  # noqa: FBT001  # click passes flags so
    accept_clock: bool,  # noqa: FBT001
    workers: int | None,
    log_format: LogFormat,
) -> None:
    """Listen for machines, store what they send, and serve the pages."""
    configure_logs(log_format)
    ignore_hangups()
    options = StartOptions(adopt_node, accept_clock, os.environ.get(mes_.TOKEN, ""))
    if workers is None:
        uvloop.run(_serve(config_path, lambda config: run_server(config, options)))
    else:
        uvloop.run(_serve(config_path, lambda config: run_workers(config, options, workers, log_format)))


async def _serve(
    config_path: Path | None, start: Callable[[Config], AbstractAsyncContextManager[Running]]
) -> None:
    with hangups() as heard, stopping() as stop:  # before the file is read, so that no change of it is missed
        source = source_of(config_path)
        config = load_config(source)
        set_level(config.log.stderr_level)
        async with start(config) as running, reloading(Reloader(source, config, running.take_over), heard):
            # Not before, so that a start that is refused says why and nothing else.
            await asyncio.to_thread(checking.say, config, source)
            _greet(running)
            await stop.wait()


def _greet(running: Running) -> None:
    click.echo(f"machines: {running.host}:{running.port}")
    if running.ack_port is not None:
        click.echo(f"acknowledged: {running.host}:{running.ack_port}")
    click.echo(f"pages: {running.url}")
    sys.stdout.flush()


@main.command()
@config_option
@log_option
@reporting_errors
def mes(config_path: Path | None, log_format: LogFormat) -> None:
    """Serve the supplier's MES: take orders, and keep the production queue."""
    configure_logs(log_format)
    ignore_hangups()
    config = load_config(config_path)
    set_level(config.log.stderr_level)
    uvloop.run(_mes(config, mes_.read_token(os.environ)))


async def _mes(config: Config, token: str) -> None:
    with stopping() as stop:
        async with mes_.run_mes(config.mes, token) as url:
            click.echo(f"mes: {url}")
            sys.stdout.flush()
            await stop.wait()


@main.command()
@click.option("--machines", type=click.IntRange(1, 1000), default=20, show_default=True)
@reporting_errors
def demo(machines: int) -> None:
    """Server, simulated machines and pages, on the embedded database in data/demo."""
    configure_logs("console")
    uvloop.run(demo_.run_demo(machines))


@main.command("check-config")
@config_option
@reporting_errors
def check_config(config_path: Path | None) -> None:
    """Say whether the configuration can be used, and what is wrong with it."""
    source = source_of(config_path)
    findings = checking.of_config(load_config(source), source)
    click.echo(f"{source or 'the defaults'}: good")
    for finding in findings:
        click.echo(f"warning: {finding}", err=True)


@main.command()
@config_option
@click.option("--device", help="Only this machine.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--url", help="The server's pages, if they are not where the configuration says.")
@reporting_errors
def tail(config_path: Path | None, device: str | None, as_json: bool, url: str | None) -> None:  # noqa: FBT001  # click passes flags so
    """Show records as they arrive, until Ctrl-C; a token is read from HEADRACE_TOKEN."""
    http = load_config(config_path).http
    target = (url or f"http://{http.host}:{http.port}").rstrip("/")
    try:
        asyncio.run(tail_.tail(target, device, os.environ.get(tail_.TOKEN, ""), as_json=as_json))
    except KeyboardInterrupt:
        click.echo(err=True)


@main.group()
def quarantine() -> None:
    """Rejected records: look at them, and judge them again."""


@quarantine.command("list")
@config_option
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@reporting_errors
def quarantine_list(config_path: Path | None, limit: int) -> None:
    """Show the records that a replay would judge again, the oldest first."""
    waiting = open_quarantine(load_config(config_path).storage)
    for number, rejected in enumerate(quarantine_.rejects(waiting)):
        if number >= limit:
            click.echo(f"(more; --limit shows more than {limit})", err=True)
            break
        at = datetime.fromtimestamp(rejected.received_at / 1000, UTC).isoformat(timespec="milliseconds")
        what = f"{rejected.reason} {rejected.field or ''}".rstrip()
        click.echo(f"{at}  {rejected.seq}  {rejected.peer}  byte {rejected.place}  {what}  {rejected.raw!r}")


@quarantine.command("replay")
@config_option
@reporting_errors
def quarantine_replay(config_path: Path | None) -> None:
    """Judge rejects by the present configuration; those that are good now move to the readings."""
    config = load_config(config_path)
    outcomes = quarantine_.replay(open_quarantine(config.storage), config.rules)
    click.echo(", ".join(f"{count} {what}" for what, count in sorted(outcomes.items())) or "nothing to judge")


@main.command()
@config_option
@reporting_errors
def reconcile(config_path: Path | None) -> None:
    """Count the rows of the tables against the ledger; exit status 1 if something is missing."""
    result = reconcile_.run(load_config(config_path))
    click.echo(reconcile_.summary(result))
    for finding in result.findings:
        click.echo(f"- {finding}")
    if result.findings:
        raise FailedError(f"{len(result.findings)} things don't add up")


@main.group()
def db() -> None:
    """The database of the tables."""


@db.command("init")
@config_option
@reporting_errors
def db_init(config_path: Path | None) -> None:
    """Make the tables where there are none; doing it twice changes nothing."""
    config = load_config(config_path)
    databases.make(config.storage)
    click.echo(f"{described(config.storage)}: ready")


@db.command("backup")
@config_option
@click.option(
    "--what",
    type=click.Choice(databases.NAMES),
    default="tables",
    show_default=True,
    help="Which database.",
)
@click.argument("target", type=click.Path(path_type=Path))
@reporting_errors
def db_backup(config_path: Path | None, what: str, target: Path) -> None:
    """Copy a database to TARGET while the server writes to it."""
    config = load_config(config_path)
    file = databases.files(config)[what]
    if config.storage.backend != "sqlite" and what != databases.SUPPLIERS:
        raise ConfigError(
            "[storage] backend: only the embedded database is backed up so; for a cluster, take a snapshot of"
            " each node (nodetool snapshot, see docs/operations.md)"
        )
    backup(file.path, target, tables=file.tables)
    click.echo(f"{target}: written and checked")


@db.command("copy")
@config_option
@click.option("--from", "source", required=True, metavar="BACKEND", help="Where the rows are: sqlite.")
@click.option("--to", "target", required=True, metavar="BACKEND", help="Where they go: cassandra.")
@reporting_errors
def db_copy(config_path: Path | None, source: str, target: str) -> None:
    """Copy everything to another database, on which the server goes on afterwards.

    The server is stopped meanwhile. The copy can be interrupted and run again.
    """
    from headrace import copying  # noqa: PLC0415  # it loads the driver, which nobody else needs

    copying.run(load_config(config_path), source, target)
