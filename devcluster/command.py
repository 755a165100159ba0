"""`python -m devcluster start` and `stop`, which `make cassandra` and `make cassandra-stop` call.

Exit status 0: it runs, or doesn't any more; 1: it could not be started; 2: the call was wrong, or something
has to be installed first.
"""

import sys
import time
from pathlib import Path

import click

from devcluster import jars
from devcluster.cluster import Cluster, read_layout
from devcluster.errors import DevClusterError, FolderError, ToolsError
from devcluster.tools import missing

_FOLDER = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data/cassandra"),
    help="Where data, logs and configuration are.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """A real Cassandra on this machine, for development."""


@main.command()
@click.option("--nodes", type=click.IntRange(1, 9), default=1, help="How many nodes.")
@click.option("--port", type=click.IntRange(1, 65535), default=9042, help="Where clients connect.")
@_FOLDER
def start(nodes: int, port: int, folder: Path) -> None:
    """Start it, with the data of last time, and wait until it answers."""
    try:
        _start(Cluster(folder, nodes=nodes, port=port))
    except (ToolsError, FolderError) as error:
        _end(error, 2)
    except DevClusterError as error:
        _end(error, 1)


@main.command()
@_FOLDER
def stop(folder: Path) -> None:
    """Stop it; the data stays."""
    layout = read_layout(folder)
    if layout is None:
        click.echo(f"There is no cluster in {folder}.")
        return
    cluster = Cluster(folder, nodes=layout.nodes, first_address=layout.first_address, port=layout.port)
    ran = any(node.running for node in cluster.nodes)
    cluster.stop()
    click.echo(f"Stopped. Its data stays in {folder}." if ran else "It doesn't run.")


def _start(cluster: Cluster) -> None:
    if missing():
        raise ToolsError(missing())
    cluster.prepare()
    if cluster.running:
        click.echo("Cassandra already runs.")
    else:
        _start_and_tell(cluster)
    click.echo(_how_to_use(cluster))


def _start_and_tell(cluster: Cluster) -> None:
    if not jars.fetched():
        click.echo(f"Fetching Cassandra {jars.CASSANDRA} (66 MB, once; about half a minute) ...")
    click.echo(f"Starting Cassandra {jars.CASSANDRA}, which takes 10 to 60 s ...")
    began = time.monotonic()
    cluster.start()
    click.echo(f"Cassandra answers after {time.monotonic() - began:.0f} s.")


def _how_to_use(cluster: Cluster) -> str:
    """The contact points, and the lines that lead Headrace there."""
    quoted = ", ".join(f'"{address}"' for address in cluster.contact_points)
    return f"""
Contact points: {", ".join(f"{address}:{cluster.port}" for address in cluster.contact_points)}
Logs: {cluster.folder}/node*/cassandra.log

For config.toml:

[storage]
backend = "cassandra"

[storage.cassandra]
contact_points = [{quoted}]
port = {cluster.port}
replication_factor = {min(3, len(cluster.nodes))}
"""


def _end(error: DevClusterError, status: int) -> None:
    click.echo(error, err=True)
    sys.exit(status)
