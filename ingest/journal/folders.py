"""Where journals lie under a `[journal] path`: a single server's in it, each worker's in a folder there."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ingest.journal.owner import owner


class Found(NamedTuple):
    """A journal that is there."""

    folder: Path
    node: int


def worker_folder(folder: Path, number: int) -> Path:
    """Where the worker with this number keeps its journal."""
    return folder / f"worker-{number}"


def journals_under(folder: Path) -> Iterator[Found]:
    """All journals there, whoever has them.

    Raises:
        JournalError: one doesn't say whose it is.
    """
    for place in (folder, *sorted(folder.glob("worker-*"))):
        identity = owner(place)
        if identity is not None:
            yield Found(place, identity.node)
