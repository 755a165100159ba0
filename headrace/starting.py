"""Starting the side that takes data: journal, claim of the node, numbering, listeners, sink.

It knows nothing of pages, so a worker's process loads nothing of them.
"""

from collections.abc import Collection
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from headrace.config import Config
from headrace.logs import set_level
from ingest.assembler import Numbering
from ingest.claims import Heard
from ingest.journal import Journal, journals_under
from ingest.live import LiveView
from ingest.metrics import IngestMetrics
from ingest.server import IngestServer
from ingest.sink import SinkTask
from storage.base import Claim
from storage.errors import StorageError
from storage.factory import open_writer

SINK: Final = "tables"
"""The name of the sink that writes the tables."""

_log = structlog.get_logger("headrace")


class StartOptions(NamedTuple):
    """What only a person can decide at a start."""

    adopt_node: bool = False
    accept_clock: bool = False
    mes_token: str = ""
    """What the supplier's MES knows this gateway by."""


async def take_over(server: IngestServer, config: Config) -> None:
    """Let a running server go by another configuration, of which only `reload.WHILE_RUNNING` may differ.

    Certificates are read anew, also where nothing differs.

    Raises:
        CertificateError: they can't be used; nothing was changed.
    """
    if server.listener.certificates is not None:
        await server.listener.certificates.renew()
    server.change(config.ingest, config.rules, keep_hours=config.journal.keep_hours)
    set_level(config.log.stderr_level)


async def start_server(
    config: Config, options: StartOptions, live: LiveView, heard: Heard, metrics: IngestMetrics
) -> IngestServer:
    """A server that takes data.

    Raises:
        IngestError: journal or clock are not as they have to be, or a port is taken.
        StorageError: the node is another's, or the database is needed and can't be used.
    """
    journal = Journal(config.journal, config.ingest.node_id)
    if not options.accept_clock:
        journal.check_clock()
    claim = _claim(config, journal, adopt=options.adopt_node)
    if claim is None:
        journal.goes_on_alone()
    elif journal.renumber(claim):
        _log.warning("journal_renumbered", folder=str(journal.folder), reason="its numbers were taken")
        journal.close()
        journal = Journal(config.journal, config.ingest.node_id)
    task = SinkTask(str(journal.folder), journal.id, config.ingest.node_id, config.storage)
    server = IngestServer(
        config.ingest,
        config.rules,
        journal,
        _numbering(journal, claim),
        sinks={SINK: task},
        live=live,
        heard=heard,
        metrics=metrics,
    )
    await server.start(version("headrace"))
    return server


def warn_of_others(config: Config, ours: Collection[Path]) -> None:
    """Say which journals under our path belong to nobody who runs: what waits in them is not delivered.

    Raises:
        JournalError: one doesn't say whose it is.
    """
    for journal in journals_under(Path(config.journal.path)):
        if journal.folder not in ours:
            _log.warning("journal_of_nobody", folder=str(journal.folder), node=journal.node)


def _claim(config: Config, journal: Journal, *, adopt: bool) -> Claim | None:
    """Take the node for this journal; None where the tables can't say just now."""
    try:
        with closing(open_writer(config.storage)) as writer:
            return writer.claim(config.ingest.node_id, journal.id, adopt=adopt, to_write=False)
    except StorageError as error:
        if not error.retriable:
            raise
        if journal.is_new:
            raise type(error)(
                f"{error}; a journal's first start needs the database, to learn which numbers are taken"
            ) from error
        _log.warning("tables_not_reachable", reason=str(error))
        return None


def _numbering(journal: Journal, claim: Claim | None) -> Numbering:
    """Go on above everything that journal and tables know."""
    block, record = journal.tail.block, journal.tail.next_record
    if claim is not None:
        record = max(record, claim.next_record)
        block = max(block, claim.reached)
    return Numbering(block + 1, record)
