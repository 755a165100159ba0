"""Reading files that people put there: configurations, certificates, keys.

A pipe or a device in such a place would make who reads it wait for ever, and with him whoever waits for him;
a file of any size would take all memory. So neither is read.
"""

import errno
import os
import stat
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20
MAX_PEM_BYTES: Final = 16 * MIB
"""Of certificates, keys and lists of revoked ones: 200 000 of these."""


def read_ordinary(path: Path, max_bytes: int) -> bytes:
    """What an ordinary file holds.

    Raises:
        OSError: it can't be read, is no ordinary file, or is larger; `strerror` says which.
    """
    handle = _opened(path)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _no_file(path)
        with os.fdopen(handle, "rb", closefd=False) as file:
            content = file.read(max_bytes + 1)
    finally:
        os.close(handle)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"is larger than {max_bytes // MIB} MiB", str(path))
    return content


def _opened(path: Path) -> int:
    """Opened so that nobody is waited for: what it is can be asked of what is open only, without a race."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a device that is not there
            raise _no_file(path) from error
        raise


def _no_file(path: Path) -> OSError:
    return OSError(errno.EINVAL, "is no ordinary file", str(path))
