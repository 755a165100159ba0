"""The unit for systemd: it starts what there is, and is shut in."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, passes, serves

UNIT = (DEPLOY / "headrace.service").read_text(encoding="utf-8")
INSTALL = "apt-get install systemd"


def setting(name: str) -> str:
    """What the unit says under this name, once."""
    (found,) = re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    return str(found)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists on this machine."""
    program = shlex.split(setting("ExecStart"))[0]
    path = tmp_path / "headrace.service"
    path.write_text(UNIT.replace(program, str(Path(sys.executable).with_name("headrace"))))
    return path


def test_the_unit_starts_the_server() -> None:
    """The command and its options are ones that there are."""
    program, *words = shlex.split(setting("ExecStart"))
    assert program == "/opt/headrace/.venv/bin/headrace"
    assert serves(words)


def test_the_unit_leaves_to_a_person_what_needs_one() -> None:
    """A wrong configuration isn't tried again; an end in order isn't cut short."""
    assert setting("Restart") == "on-failure"
    assert setting("RestartPreventExitStatus") == "2"
    assert int(setting("TimeoutStopSec")) >= 45


def test_a_reload_is_a_hangup() -> None:
    """Of the server alone; one that comes before it can hear ends it, and it is started again."""
    assert setting("ExecReload") == "/bin/kill -HUP $MAINPID"
    assert setting("RestartForceExitStatus") == "SIGHUP"


def test_the_service_has_a_user_of_its_own_and_bounds() -> None:
    """It owns its state and nothing else, and a fault of ours stops at its border."""
    assert setting("DynamicUser") == "yes"
    assert setting("StateDirectoryMode") == "0700"
    assert setting("UMask") == "0077"
    assert setting("LimitCORE") == "0"
    assert int(setting("LimitNOFILE")) > 10_000 + 100
    assert int(setting("TasksMax")) <= 512
    assert re.fullmatch(r"\d+G", setting("MemoryMax"))


@pytest.mark.parametrize("name", ["DynamicUser", "User", "StateDirectory", "StateDirectoryMode", "UMask"])
def test_commands_run_as_the_service_does(name: str) -> None:
    """What the page tells to run beside it says the same of user and state, in systemd's words."""
    page = (DEPLOY / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"systemd-run (-.*?)\}", page, re.DOTALL)
    assert f"--property={name}={setting(name)}" in command


def test_systemd_understands_the_unit(unit: Path) -> None:
    """No unknown key, no value that can't be."""
    passes("systemd-analyze", "verify", unit, install=INSTALL)


def test_systemd_finds_the_unit_shut_in(unit: Path) -> None:
    """An exposure of at most 1.4 of 10; it was 1.2 when this was written."""
    words = ("security", "--offline=true", "--threshold=14", unit)
    if not _rates_offline():
        pytest.skip("systemd-analyze of systemd 250 or newer is missing")
    passes("systemd-analyze", *words, install=INSTALL)


def _rates_offline() -> bool:
    try:
        said = subprocess.run(["systemd-analyze", "--help"], capture_output=True, text=True, check=False)  # noqa: S607
    except FileNotFoundError:
        return False
    return "--offline" in said.stdout
