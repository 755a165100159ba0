"""Making files durable, and their names."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until a file is on the disk; of a folder, the names of new, renamed and deleted files in it.

    Raises:
        OSError: it can't be done.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
