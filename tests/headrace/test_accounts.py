"""`headrace user` and `headrace token`: users and tokens from the terminal, and what is refused."""

import os
import pty
import re
import stat
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headrace.cli import main
from tests.faults.harness import COMMAND
from tests.faults.waiting import wait_until

PASSWORD = "a horse in the rain"  # noqa: S105  # of nobody

Run = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose accounts lie in a folder that is not there yet."""
    path = tmp_path / "config.toml"
    path.write_text(f'[accounts]\npath = "{tmp_path}/data/accounts.db"\n')
    return path


@pytest.fixture
def run(config: Path) -> Run:
    """Calls a command; the password of a test stands on standard input."""

    def call(*words: str, stdin: str | bytes = f"{PASSWORD}\n") -> Result:
        return CliRunner().invoke(main, [*words, "--config", str(config)], input=stdin)

    return call


def add(run: Run, name: str = "Anna", role: str = "customer") -> None:
    """A user with the usual password."""
    assert run("user", "add", name, "--role", role, "--password-stdin").exit_code == 0


def test_the_first_administrator_is_made_like_everybody(run: Run, tmp_path: Path) -> None:
    """There is nobody at first; the file is the owner's alone and holds no password."""
    assert run("user", "list").stdout == ""
    made = run("user", "add", "Anna", "--role", "administrator", "--role", "customer", "--password-stdin")
    assert (made.exit_code, made.stdout) == (0, "Anna: user 1, administrator, customer\n")
    listed = run("user", "list").stdout
    assert re.fullmatch(
        r"1  Anna  administrator, customer  active  password  since 20\d\d-\d\d-\d\d\n", listed
    )
    files = list((tmp_path / "data").iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert not [file for file in files if PASSWORD.encode() in file.read_bytes()]


def test_a_user_is_changed_step_by_step(run: Run) -> None:
    """Each command says what is so now, and the list shows it."""
    assert run("user", "add", "plant", "--role", "customer", "--no-password", stdin="").exit_code == 0
    assert "tokens only" in run("user", "list").stdout
    assert run("user", "password", "plant", "--password-stdin").stdout == (
        "plant: the password is changed, all logins have ended\n"
    )
    assert run("user", "roles", "plant", "--role", "manager").stdout == "plant: manager\n"
    assert run("user", "deactivate", "plant").stdout == "plant: inactive, all logins have ended\n"
    assert "  manager  inactive  password  " in run("user", "list").stdout
    assert run("user", "activate", "plant").stdout == "plant: active\n"
    assert "  manager  active  password  " in run("user", "list").stdout


def test_a_token_alone_goes_to_standard_output(run: Run) -> None:
    """So that it can go to a file; what is said about it goes to the terminal."""
    add(run)
    made = run("token", "create", "Anna", "--label", "MES of the plant", "--days", "30")
    assert made.exit_code == 0
    found = re.fullmatch(r"hrt_([0-9a-f]{12})_[0-9a-f]{64}\n", made.stdout)
    assert found is not None
    assert found[1] in made.stderr
    assert made.stdout.strip() not in made.stderr
    listed = run("token", "list").stdout
    assert re.fullmatch(
        rf"{found[1]}  Anna  20\d\d-\d\d-\d\d to 20\d\d-\d\d-\d\d  works  MES of the plant\n", listed
    )
    assert run("token", "revoke", found[1]).stdout == f"{found[1]}: revoked\n"
    assert run("token", "revoke", found[1]).stdout == f"{found[1]}: was revoked before\n"
    assert "  revoked 20" in run("token", "list").stdout


@pytest.mark.parametrize(
    ("words", "stdin", "status", "said"),
    [
        (
            ["user", "add", "Mia", "--role", "wizard", "--password-stdin"],
            PASSWORD,
            2,
            "known are: administrator",
        ),
        (["user", "add", "Mia", "--password-stdin"], PASSWORD, 2, "--role"),
        (["user", "add", "Anna", "--role", "customer", "--password-stdin"], PASSWORD, 1, "Anna already"),
        (["user", "add", "no name", "--role", "customer", "--password-stdin"], PASSWORD, 2, "1 to 64"),
        (["user", "add", "everybody", "--role", "customer", "--no-password"], "", 2, "everybody"),
        (["user", "add", "Mia", "--role", "customer", "--password-stdin"], "short\n", 2, "12 to 256"),
        (["user", "add", "Mia", "--role", "customer", "--password-stdin"], "", 2, "12 to 256"),
        (["user", "add", "Mia", "--role", "customer", "--password-stdin"], "x" * 9_999, 2, "12 to 256"),
        (["user", "add", "Mia", "--role", "customer", "--password-stdin"], b"\xff\xff", 2, "UTF-8"),
        (["user", "add", "Mia", "--role", "customer", "--password-stdin"], "password1234", 2, "everybody"),
        (["user", "add", "Mia", "--role", "customer"], PASSWORD, 2, "--password-stdin"),
        (["user", "add", "Mia", "--role", "customer", "--no-password", "--password-stdin"], "", 2, "one of"),
        (["user", "add", "Mia", "--role", "customer", "--password", PASSWORD], "", 2, "No such option"),
        (["user", "password", "nobody", "--password-stdin"], PASSWORD, 1, "no user 'nobody'"),
        (["user", "password", "Anna", "--password-stdin"], "short", 2, "12 to 256"),
        (["user", "roles", "nobody", "--role", "customer"], "", 1, "no user 'nobody'"),
        (["user", "roles", "Anna", "--role", "wizard"], "", 2, "no role 'wizard'"),
        (["user", "deactivate", "nobody"], "", 1, "no user 'nobody'"),
        (["user", "activate", "nobody"], "", 1, "no user 'nobody'"),
        (["token", "create", "nobody", "--label", "x", "--days", "1"], "", 1, "no user 'nobody'"),
        (["token", "create", "Anna", "--label", "x", "--days", "0"], "", 2, "1 to 3650 days"),
        (["token", "create", "Anna", "--label", "x", "--days", "3651"], "", 2, "1 to 3650 days"),
        (["token", "create", "Anna", "--label", "", "--days", "1"], "", 2, "label"),
        (["token", "create", "Anna", "--label", "x"], "", 2, "--days"),
        (["token", "revoke", "0123456789ab"], "", 1, "no token '0123456789ab'"),
    ],
)
def test_what_can_not_be_is_said_and_changes_nothing(
    run: Run, words: list[str], stdin: str | bytes, status: int, said: str
) -> None:
    """No password in what is said; 2 where the call was wrong, 1 where it could not be done."""
    add(run)
    before = run("user", "list").stdout
    done = run(*words, stdin=stdin)
    assert done.exit_code == status, done.output
    assert said in done.stderr
    assert done.stdout == ""
    assert PASSWORD not in done.stderr
    assert run("user", "list").stdout == before
    assert run("token", "list").stdout == ""


def test_only_the_first_line_is_the_password(run: Run) -> None:
    """Without its end, whichever; what follows is not read."""
    made = run(
        "user", "add", "Anna", "--role", "customer", "--password-stdin", stdin=f"{'x' * 254}ab\r\nmore\n"
    )
    assert made.exit_code == 0, made.output


class Terminal:
    """A person at a terminal, in front of a command that runs in a process of its own."""

    def __init__(self, config: Path, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [COMMAND, *words, "--config", config],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
            start_new_session=True,
        )
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self.shown = ""

    def type(self, prompt: str, text: str) -> None:
        """Wait until it asks and shows nothing of what is typed, and type a line."""
        wait_until(lambda: self._see().endswith(f"{prompt}: "), f"it asks for {prompt!r}")
        assert not termios.tcgetattr(self._ours)[3] & termios.ECHO
        os.write(self._ours, f"{text}\n".encode())

    def end(self) -> tuple[int, str]:
        """Its exit status, and its standard output."""
        said, _ = self.process.communicate(timeout=60)
        self._see()
        return self.process.returncode, said

    def close(self) -> None:
        """Leave nothing running."""
        self.process.kill()
        self.process.communicate()
        os.close(self._ours)

    def _see(self) -> str:
        with suppress(OSError):  # nothing yet, or nothing more
            self.shown += os.read(self._ours, 4_096).decode()
        return self.shown


@pytest.fixture
def terminal(config: Path) -> Iterator[Callable[..., Terminal]]:
    """Starts a command at a terminal."""
    opened: list[Terminal] = []

    def start(*words: str) -> Terminal:
        opened.append(Terminal(config, *words))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_a_password_is_asked_for_twice_and_not_shown(
    terminal: Callable[..., Terminal], run: Run, config: Path
) -> None:
    """Two different ones are asked for again."""
    asked = terminal("user", "add", "Anna", "--role", "administrator")
    asked.type("Password", PASSWORD)
    asked.type("Once more", "a horse in the snow")
    asked.type("Password", PASSWORD)
    asked.type("Once more", PASSWORD)
    assert asked.end() == (0, "Anna: user 1, administrator\n")
    assert "horse" not in asked.shown
    assert "Anna" in run("user", "list").stdout
    assert config.exists()


def test_what_is_wrong_is_said_before_the_password_is_asked_for(terminal: Callable[..., Terminal]) -> None:
    """Nobody types a password for a role that there is not."""
    asked = terminal("user", "add", "Anna", "--role", "wizard")
    assert asked.end() == (2, "")
    assert "no role 'wizard'" in asked.shown
    assert "Password" not in asked.shown


def test_a_token_of_a_real_process_is_all_on_its_standard_output(run: Run, config: Path) -> None:
    """As a script gets it."""
    add(run)
    done = subprocess.run(
        [COMMAND, "token", "create", "Anna", "--label", "a script", "--days", "1", "--config", config],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert re.fullmatch(r"hrt_[0-9a-f]{12}_[0-9a-f]{64}\n", done.stdout)
    assert done.stderr.count("\n") == 1


def test_a_file_that_holds_something_else_is_refused(run: Run, tmp_path: Path) -> None:
    """One line with the key, exit status 2, and the file as it was."""
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "accounts.db"
    path.write_bytes(b"something else" * 1_000)
    done = run("user", "list")
    assert done.exit_code == 2
    assert "accounts.path" in done.stderr
    assert done.stderr.count("\n") == 1
    assert path.read_bytes() == b"something else" * 1_000
