"""What the programs make is their user's alone, and lies where the configuration says, nowhere else."""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.faults import processes
from tests.faults.harness import COMMAND, Server
from tests.faults.sender import Sender
from tests.faults.supplier import Mes
from tests.headrace.conftest import Call
from tests.support.needing import need

NOBODY: Final = 65534
READS: Final = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")
OPEN_TO_ALL: Final = ("sh", "-c", 'umask 0; exec "$@"', "sh")
SHARED: Final = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock")  # noqa: S108  # where everybody may write


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can get to, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="headrace-private-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_everything_that_is_made_is_its_users_alone(place: Path) -> None:
    """Folders, journal, databases with their companions, under a umask that would give all to everybody."""
    data = place / "data" / "of the plant"
    server = Server(place, _all_under(data))
    server.before = OPEN_TO_ALL
    try:
        server.start()
        _load(server)
        assert {path.suffix for path in _all_of(data)} >= {".db", ".db-wal", ".db-shm", ""}
        _require_private(place / "data")
        _call(server, "user", "add", "Anna", "--role", "operator", "--no-password")
        _call(server, "db", "backup", str(place / "data" / "copy.db"))
        assert server.stop() == 0
        _require_private(place / "data")
    finally:
        server.clean_up()


def test_what_the_supplier_makes_is_its_users_alone(place: Path) -> None:
    """In a process of its own as well."""
    mes = Mes(place)
    mes.configure(path=str(place / "mes" / "mes.db"))
    mes.before = OPEN_TO_ALL
    mes.start()
    try:
        _require_private(place / "mes")
    finally:
        mes.clean_up()


def test_what_was_looser_before_is_left_and_told(server: Server, call: Call) -> None:
    """An older version's files, or a copy that was put back: somebody decides, the server only says so."""
    assert call("db", "init").returncode == 0
    server.folder.chmod(0o755)
    server.tables.chmod(0o644)
    server.start()
    assert server.stop() == 0
    said = [line["key"] for line in server.said() if line["event"] == "unwise"]
    assert said.count("[storage.sqlite] path") == 1
    assert stat.S_IMODE(server.tables.stat().st_mode) == 0o644


def test_a_normal_user_is_enough_and_nothing_is_written_elsewhere(place: Path) -> None:
    """Under load it holds no file open for writing but in its folder, and leaves none in any other place."""
    data, elsewhere = place / "data", place / "elsewhere"
    for folder in (data, elsewhere):
        folder.mkdir()
        folder.chmod(0o777)
    server = Server(place, _all_under(data))
    server.config.chmod(0o644)
    server.before = (*_as_nobody(), *_whose_places_are(elsewhere))
    before = _owned_elsewhere(place)
    try:
        server.start()
        _load(server)
        pids = [server.pid, *processes.children(server.pid)]
        assert len(pids) == 2, "server and sink"
        written = {path for pid in pids for path in _open_for_writing(pid)}
        assert written
        assert {path for path in written if not path.is_relative_to(data)} == {server.log}
        assert server.stop() == 0
    finally:
        server.clean_up()
    assert list(elsewhere.rglob("*")) == []
    assert _owned_elsewhere(place) <= before
    assert {path.stat().st_uid for path in data.rglob("*")} == {_uid()}


def _all_under(data: Path) -> dict[str, dict[str, object]]:
    """The settings that put everything there."""
    names = {"storage.sqlite": "tables.db", "journal": "journal"}
    names |= {section: f"{section}.db" for section in ("accounts", "orders", "log", "mes")}
    return {section: {"path": f"{data}/{name}"} for section, name in names.items()}


def _load(server: Server) -> None:
    """Some thousand records through journal and tables, while everything is open."""
    sender = Sender("cnc", server.ack_port)
    sender.start()
    sender.wait_for_more(5_000)
    sender.stop()
    server.wait_drained()


def _call(server: Server, *words: str) -> None:
    subprocess.run([*OPEN_TO_ALL, COMMAND, *words, "--config", server.config], check=True, timeout=60)


def _all_of(folder: Path) -> list[Path]:
    return [folder, *folder.rglob("*")]


def _require_private(folder: Path) -> None:
    """Files 0600 and folders 0700; what a checkpoint or trimming takes away meanwhile is no matter."""
    for path in _all_of(folder):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            continue
        assert stat.S_IMODE(mode) == (0o700 if stat.S_ISDIR(mode) else 0o600), path


def _uid() -> int:
    return NOBODY if os.geteuid() == 0 else os.geteuid()


def _as_nobody() -> tuple[str, ...]:
    """Words before a command that make it another user's; none where this is a normal user already.

    Where the interpreter lies in a folder of root's it may read everything; what it may write is nobody's.
    """
    if os.geteuid() != 0:
        return ()
    need(shutil.which("setpriv") is not None, "setpriv is missing; try: apt-get install util-linux")
    user = ("--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--no-new-privs")
    choices = [("setpriv", *user, "--inh-caps=-all"), ("setpriv", *user, *READS)]
    fitting = [words for words in choices if _starts(words)]
    need(bool(fitting), "another user can't read the interpreter, nor be given CAP_DAC_READ_SEARCH for it")
    return fitting[0]


def _starts(words: tuple[str, ...]) -> bool:
    """Whether the program can be started behind these words, and by what they have started."""
    done = subprocess.run(
        [*words, "sh", "-c", '"$0" --version', COMMAND], cwd="/", capture_output=True, check=False
    )
    return done.returncode == 0


def _whose_places_are(folder: Path) -> tuple[str, ...]:
    """Words that begin it in this folder, which is its home and its place for temporary files too."""
    return ("env", f"--chdir={folder}", f"HOME={folder}", f"TMPDIR={folder}", "PYTHONDONTWRITEBYTECODE=1")


def _open_for_writing(pid: int) -> Iterator[Path]:
    """The ordinary files that a process has open so."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            flags = (link.parent.parent / "fdinfo" / link.name).read_text().split("flags:\t", 1)[1].split()[0]
            is_file = stat.S_ISREG(link.stat().st_mode)
        except FileNotFoundError:
            continue
        if is_file and int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
            yield link.readlink()


def _owned_elsewhere(place: Path) -> set[str]:
    """What the server's user has where everybody may write; only another user's can be told from ours."""
    found: set[str] = set()
    if os.geteuid() != 0:
        return found
    for folder in filter(os.path.isdir, SHARED):
        for entry in os.scandir(folder):
            if entry.path != str(place) and entry.stat(follow_symlinks=False).st_uid == _uid():
                found.add(entry.path)
    return found
