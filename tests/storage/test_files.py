"""Files that people put there are read if they are files, and no others are waited for."""

import os
import socket
from pathlib import Path

import pytest

from storage.files import MIB, read_ordinary


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    """Up to its bound, also through a link, as secrets of containers are put there."""
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"x" * MIB)
    link.symlink_to(file)
    assert read_ordinary(link, MIB) == b"x" * MIB
    with pytest.raises(OSError, match="is larger than 1 MiB"):
        read_ordinary(_one_more(file), MIB)


def test_what_says_no_size_is_read_up_to_the_bound_all_the_same() -> None:
    """Files of the kernel have none until they are read."""
    assert read_ordinary(Path("/proc/self/status"), MIB)


def test_whatever_else_has_a_name_is_refused_at_once(tmp_path: Path) -> None:
    """A pipe, a folder, a socket, a device, and a link to one."""
    pipe, link, end = tmp_path / "pipe", tmp_path / "link", tmp_path / "socket"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(end))
        for path in (pipe, link, tmp_path, end, Path("/dev/zero")):
            with pytest.raises(OSError, match="is no ordinary file"):
                read_ordinary(path, MIB)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_ordinary(tmp_path / "none", MIB)


def _one_more(file: Path) -> Path:
    with file.open("ab") as more:
        more.write(b"x")
    return file
