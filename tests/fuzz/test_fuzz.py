"""What the fuzzer once found stays tried, and some seconds of each run look for more."""

import sys
from importlib.util import find_spec
from pathlib import Path
from subprocess import CompletedProcess, run

import msgspec
import pytest

from tests.fuzz.outcome import Outcome
from tests.fuzz.running import Run, fuzz
from tests.fuzz.targets import CORPUS, TARGETS
from tests.support.needing import need

SECONDS = 30.0

_ROOT = Path(__file__).parents[2]
_BROKEN = """
from tests.fuzz import targets, worker

def broken(data):
    raise ValueError("broken")

targets.TARGETS["parser"] = targets.TARGETS["parser"]._replace(run=broken)
worker.main("parser", "1000", "10", "-max_len=8")
"""


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_of_the_corpus_passes(target: str) -> None:
    """Each reached code that no other one did."""
    inputs = sorted((CORPUS / target).iterdir())
    assert inputs
    for path in inputs:
        assert TARGETS[target].run(path.read_bytes()) >= 0, path.name


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_stays_small(target: str) -> None:
    """In all under 200 files and a MiB: half of that for each target."""
    sizes = [path.stat().st_size for path in (CORPUS / target).iterdir()]
    assert len(sizes) < 100
    assert sum(sizes) < 1 << 19


@pytest.mark.parametrize("target", TARGETS)
def test_the_fuzzer_finds_nothing(target: str) -> None:
    """In some seconds; what it finds stands here as Python's bytes, for the list of its target."""
    need(find_spec("atheris") is not None, "atheris is not installed: there is none for this platform")
    found = fuzz(target, max_bytes=10**12, seconds=SECONDS)
    assert found.outcome.finding is None, f"{found.outcome.what}\n{found.outcome.finding!r}"
    assert found.outcome.inputs > 0
    assert found.edges > 0


def test_the_command_stops_by_itself_and_says_what_it_did() -> None:
    """In one line, after the bytes that it was given."""
    need(find_spec("atheris") is not None, "atheris is not installed: there is none for this platform")
    done = _command("parser", "--bytes", "5000")
    assert done.stdout.startswith("parser: ")
    assert done.stdout.endswith(", 0 findings, stopped by bytes\n")
    assert done.returncode == 0


@pytest.mark.parametrize(("options", "status"), [(("--bytes", str(10**12)), 3), ((), 0)])
def test_a_command_whose_time_is_over_says_so(options: tuple[str, ...], status: int) -> None:
    """It fails if bytes were asked for that it has not given."""
    need(find_spec("atheris") is not None, "atheris is not installed: there is none for this platform")
    done = _command("parser", "--seconds", "1", *options)
    assert done.stdout.endswith(", 0 findings, stopped by time\n")
    assert done.returncode == status


def test_a_run_says_what_it_was_stopped_by() -> None:
    """A finding goes before everything else; the bytes are those of all its processes."""
    assert [_run(given, finding).stopped_by for given, finding in ((9, None), (10, None), (10, b"x"))] == [
        "time",
        "bytes",
        "finding",
    ]


def test_an_input_that_fails_is_said() -> None:
    """With what was wrong, whatever it was; the process ends by itself."""
    need(find_spec("atheris") is not None, "atheris is not installed: there is none for this platform")
    done = run([sys.executable, "-c", _BROKEN], cwd=_ROOT, capture_output=True, timeout=100, check=False)
    outcome = msgspec.json.decode(done.stdout, type=Outcome)
    assert done.returncode != 0
    assert outcome.finding is not None
    assert outcome.what.endswith("ValueError: broken\n")


def _run(given_bytes: int, finding: bytes | None) -> Run:
    return Run("parser", Outcome(1, given_bytes, finding), 0, 0, 0, max_bytes=10)


def _command(*options: str) -> "CompletedProcess[str]":
    return run(
        [sys.executable, "-m", "tests.fuzz", *options],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
