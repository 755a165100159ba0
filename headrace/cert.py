"""`headrace cert`: a small authority, and certificates of servers and machines, for plants that have none.

What makes them is loaded when it is needed: it is 14 MB, and nothing else needs it.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

import click

from headrace.calling import reporting_errors

_AUTHORITY_DAYS: Final = 3_650
_DAYS: Final = 825
_LONGEST_DAYS: Final = 36_500

_folder = click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
_force = click.option("--force", is_flag=True, help="Overwrite what is there.")


def _days(default: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--days",
        type=click.IntRange(1, _LONGEST_DAYS),
        default=default,
        show_default=True,
        help="For how long it is valid.",
    )


@click.group()
def cert() -> None:
    """Certificates for TLS with machines, where the plant has no authority of its own."""


@cert.command("ca")
@_folder
@click.option("--name", default="Headrace authority", show_default=True, help="What people see of it.")
@_days(_AUTHORITY_DAYS)
@_force
@reporting_errors
def cert_ca(folder: Path, name: str, days: int, force: bool) -> None:  # noqa: FBT001  # click passes flags so
    """Make an authority in DIR: ca.pem, ca.key, and ca.crl, the list of its revoked certificates."""
    from headrace import authority, revoking  # noqa: PLC0415

    made = authority.make_authority(folder, name, days=days, force=force)
    click.echo(f"{made.certificate}: an authority, until {_day(made.until)}")
    click.echo(f"{revoking.make_list(folder).path}: the list of its revoked certificates, with nothing on it")
    click.echo(f"{made.key}: its key; whoever has it can be any machine, so keep it off the server", err=True)


@cert.command("server")
@_folder
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_days(_DAYS)
@_force
@reporting_errors
def cert_server(folder: Path, names: tuple[str, ...], days: int, force: bool) -> None:  # noqa: FBT001
    """Make a server's certificate with the authority in DIR, for the names and addresses it is reached by.

    The files are called after the first one.
    """
    from headrace import authority  # noqa: PLC0415

    made = authority.make_server(folder, names, days=days, force=force)
    click.echo(f"{made.certificate}: server {', '.join(names)}, until {_day(made.until)}")
    click.echo(f"{made.key}: its key")


@cert.command("device")
@_folder
@click.argument("devices", metavar="DEVICE...", nargs=-1, required=True)
@_days(_DAYS)
@_force
@reporting_errors
def cert_device(folder: Path, devices: tuple[str, ...], days: int, force: bool) -> None:  # noqa: FBT001
    """Make a certificate for each DEVICE with the authority in DIR; the device's name is its identity."""
    from headrace import authority  # noqa: PLC0415

    for device in devices:
        made = authority.make_device(folder, device, days=days, force=force)
        click.echo(f"{made.certificate}: machine {device}, until {_day(made.until)}")
        click.echo(f"{made.key}: its key")


@cert.command("revoke")
@_folder
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@reporting_errors
def cert_revoke(folder: Path, names: tuple[str, ...]) -> None:
    """Put the certificates NAME.pem in DIR on the authority's list, ca.crl: for stolen keys.

    Headrace asks it of machines; a server's is for machines that ask too. Call it before another certificate
    of that name is made, which overwrites the one to revoke.
    """
    from headrace import revoking  # noqa: PLC0415

    listed = revoking.revoke(folder, names)
    click.echo(f"{listed.path}: {listed.certificates} revoked, good until {_day(listed.until)}")
    if listed.begun:
        click.echo(
            f"{listed.path} was not there and begins anew: if there is another one, it has those that were"
            " revoked before; put it here and call this again",
            err=True,
        )
    click.echo("Copy it to the servers, where [ingest] tls_client_crl names it, and reload them.", err=True)


def _day(until: datetime) -> str:
    return until.date().isoformat()
