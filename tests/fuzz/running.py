"""A run of the fuzzer in processes of its own, and what came of it in one line.

One process after the other, each with the corpus that those before it have found, as they grow.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from tests.fuzz.outcome import Outcome
from tests.fuzz.targets import CORPUS, TARGETS

_PROGRESS: Final = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)/")
_INPUT_TIMEOUT_S: Final = 20
_STARTING_S: Final = 100.0


class Run(msgspec.Struct, frozen=True):
    """What a run came to."""

    target: str
    outcome: Outcome
    edges: int
    """Places in our code that were reached."""

    features: int
    """The same, told apart by how often one input reached them."""

    corpus: int
    """Inputs of which each reaches something that no other one does."""

    max_bytes: int
    """As many were to be given."""

    @property
    def stopped_by(self) -> str:
        """`finding`, `bytes`, or `time`."""
        if self.outcome.finding is not None:
            return "finding"
        return "bytes" if self.outcome.given_bytes >= self.max_bytes else "time"

    @property
    def line(self) -> str:
        """The closing line."""
        return (
            f"{self.target}: {self.outcome.inputs} inputs, {self.outcome.given_bytes} bytes, "
            f"{self.edges} edges, {self.features} features, {self.corpus} in the corpus, "
            f"{int(self.outcome.finding is not None)} findings, stopped by {self.stopped_by}"
        )


def fuzz(name: str, *, max_bytes: int, seconds: float, found: Path | None = None) -> Run:
    """Fuzz a target until so many bytes or seconds are spent, or an input fails.

    Inputs that reach something new are kept in `found`, where that is given.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-fuzz-") as scratch:
        folder = Path(scratch)
        (folder / "failed").mkdir()
        new = found or folder / "new"
        new.mkdir(exist_ok=True)
        until = time.monotonic() + seconds
        run = _one(name, folder, new, max_bytes, seconds)
        while run.outcome.finding is None and run.outcome.given_bytes < max_bytes:
            left = until - time.monotonic()
            if left <= 0:
                break
            run = _both(run, _one(name, folder, new, max_bytes - run.outcome.given_bytes, left))
        return run


def _one(name: str, folder: Path, new: Path, max_bytes: int, seconds: float) -> Run:
    """What one process comes to."""
    options = [f"-artifact_prefix={folder}/failed/", *_options(name, folder), str(new), str(CORPUS / name)]
    bounds = [str(max_bytes), str(seconds)]
    process = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.worker", name, *bounds, *options],
        capture_output=True,
        timeout=seconds + _STARTING_S,
        check=False,
    )
    said = process.stderr.decode(errors="replace")
    reached = _PROGRESS.findall(said) or [(0, 0, 0)]
    edges, features, corpus = map(int, reached[-1])
    return Run(name, _outcome(process.stdout, folder, said), edges, features, corpus, max_bytes)


def _both(first: Run, second: Run) -> Run:
    """One after the other; the second one began with what the first had found."""
    inputs = first.outcome.inputs + second.outcome.inputs
    given = first.outcome.given_bytes + second.outcome.given_bytes
    outcome = msgspec.structs.replace(second.outcome, inputs=inputs, given_bytes=given)
    return msgspec.structs.replace(second, outcome=outcome, max_bytes=first.max_bytes)


def _options(name: str, folder: Path) -> list[str]:
    """How libFuzzer is to go about it."""
    target = TARGETS[name]
    words = folder / "dictionary"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.dictionary()))
    return [f"-dict={words}", f"-max_len={target.longest}", f"-timeout={_INPUT_TIMEOUT_S}", "-len_control=0"]


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _outcome(stdout: bytes, folder: Path, said: str) -> Outcome:
    """What the process said in the end; if it could not, the input that it died of."""
    if stdout.strip():
        return msgspec.json.decode(stdout.splitlines()[-1], type=Outcome)
    failed = [path.read_bytes() for path in (folder / "failed").iterdir()]
    if not failed:
        raise RuntimeError(f"the fuzzer did not run:\n{said[-2000:]}")
    return Outcome(0, 0, failed[0], said[-2000:])
