"""Files that people name: configurations, certificates, keys, and where databases are.

A pipe or a device in such a place would make who reads it wait for ever, and with him whoever waits for him;
a file of any size would take all memory. So neither is read. A name that no file can have is refused where it
is configured, before anybody is asked for the file.
"""

import errno
import os
import stat
from pathlib import Path
from typing import Final

import msgspec

MIB: Final = 1 << 20
MAX_PEM_BYTES: Final = 16 * MIB
"""Of certificates, keys and lists of revoked ones: 200 000 of these."""

_LONGEST_NAME: Final = 240
_LONGEST_PATH: Final = 3_840
"""Less than the kernel's 255 and 4095 bytes: names of ours are made of these, and lie in such a folder."""


def check_paths(settings: msgspec.Struct, *keys: str) -> None:
    """Refuse what can't be the path of any file, under these keys of a section.

    Raises:
        ValueError: the message begins with the key.
    """
    for key in keys:
        path = getattr(settings, key) or ""
        if "\0" in path:
            raise ValueError(f"{key}: a path can't have the character U+0000 in it")
        names = [os.fsencode(name) for name in path.split("/")]
        if len(b"/".join(names)) > _LONGEST_PATH or max(map(len, names)) > _LONGEST_NAME:
            raise ValueError(
                f"{key}: a path has {_LONGEST_PATH} bytes at most, and {_LONGEST_NAME} in each of its names"
            )


class WithPath(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section of the configuration whose `path` says where something of its own lies."""

    def __post_init__(self) -> None:
        """Refuse a path that can be none.

        Raises:
            ValueError: the message begins with the key.
        """
        check_paths(self, "path")


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
