"""What each worker gets of the server: a node id, a journal, a share of the disk, the port."""

from pathlib import Path
from socket import socket
from typing import Final

import msgspec

from headrace.config import Config
from headrace.errors import ConfigError
from ingest.acceptor import reserved_sockets
from ingest.errors import IngestError
from ingest.journal import worker_folder
from ingest.settings import MIN_JOURNAL_BYTES, IngestSettings
from parser.block import MAX_NODE

MAX_WORKERS: Final = 64


class Plan(msgspec.Struct, frozen=True):
    """What all workers of a server have in common."""

    workers: int
    port: int
    """The real one, which all of them share."""

    ack_port: int | None


def check(config: Config, workers: int) -> None:
    """See that there is enough for so many.

    Raises:
        ConfigError: node ids or room for the journals do not suffice.
    """
    last = config.ingest.node_id + workers - 1
    if last > MAX_NODE:
        raise ConfigError(
            f"[ingest] node_id: {workers} workers take the ids {config.ingest.node_id} to {last};"
            f" {MAX_NODE} is the highest there is"
        )
    if config.journal.max_bytes // workers < MIN_JOURNAL_BYTES:
        raise ConfigError(
            f"[journal] max_bytes: {workers} workers share it, and each needs {MIN_JOURNAL_BYTES}:"
            f" {workers * MIN_JOURNAL_BYTES} at least"
        )


def worker_config(config: Config, plan: Plan, number: int) -> Config:
    """The configuration that the worker with this number, from 0 on, goes by."""
    ingest, journal = config.ingest, config.journal
    return msgspec.structs.replace(
        config,
        ingest=msgspec.structs.replace(
            ingest,
            node_id=ingest.node_id + number,
            port=plan.port,
            ack_port=plan.ack_port,
            share_port=True,
        ),
        journal=msgspec.structs.replace(
            journal,
            path=str(worker_folder(Path(journal.path), number)),
            max_bytes=journal.max_bytes // plan.workers,
        ),
    )


def worker_folders(config: Config, workers: int) -> set[Path]:
    """Where so many workers keep their journals."""
    return {worker_folder(Path(config.journal.path), number) for number in range(workers)}


class ReservedPorts:
    """The ports of a server, kept for its workers: nobody can connect here."""

    def __init__(self) -> None:
        self._sockets: list[socket] = []

    async def take(self, settings: IngestSettings, workers: int) -> Plan:
        """Take the ports; with port 0 free ones, which stay the same over every restart of a worker.

        Raises:
            ConfigError: one is taken.
        """
        port = await self._take("port", settings, settings.port)
        ack_port = settings.ack_port
        if ack_port is not None:
            ack_port = await self._take("ack_port", settings, ack_port)
        return Plan(workers, port, ack_port)

    async def _take(self, key: str, settings: IngestSettings, port: int) -> int:
        try:
            if not settings.share_port:  # then whoever listens there must not do so for us
                for sock in await reserved_sockets(settings.host, port, shared=False):
                    sock.close()
            sockets = await reserved_sockets(settings.host, port, shared=True)
        except IngestError as error:
            raise ConfigError(f"{error} [ingest] host and {key} say where to listen") from error
        self._sockets += sockets
        return int(sockets[0].getsockname()[1])

    def close(self) -> None:
        """Let go of them."""
        for sock in self._sockets:
            sock.close()
