"""The process of the fuzzer: `python -m tests.fuzz.worker TARGET BYTES SECONDS OPTIONS...`.

The options are libFuzzer's. It ends its process as it likes, so everything that is to be known of a run is
written as one line of JSON before that happens (see `outcome`).
"""

import os
import resource
import sys
import time
import traceback
from typing import Final, NoReturn

import atheris
import msgspec

from tests.fuzz.outcome import Outcome

_FAILED: Final = 3
_MOST_KIB: Final = 1 << 20
"""The library keeps up to 200 KB for each input of ours, and ends the process at 2 GiB without a word of how
far it came. The same inputs without it leave the memory where it was."""


class Budget:
    """Counts what was tried, and ends the process when it is enough."""

    def __init__(self, max_bytes: int, seconds: float) -> None:
        self._inputs = self._bytes = 0
        self._max_bytes = max_bytes
        self._until = time.monotonic() + seconds

    def spend(self, tried: int) -> None:
        """Account for an input of so many bytes."""
        self._inputs += 1
        self._bytes += tried
        full = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > _MOST_KIB
        if full or self._bytes >= self._max_bytes or time.monotonic() > self._until:
            self.end()

    def end(self, finding: bytes | None = None, what: str = "") -> NoReturn:
        """Say how it went, and be gone."""
        outcome = Outcome(self._inputs, self._bytes, finding, what)
        os.write(sys.stdout.fileno(), msgspec.json.encode(outcome) + b"\n")
        os._exit(0 if finding is None else _FAILED)


def main(name: str, max_bytes: str, seconds: str, *options: str) -> None:
    """Fuzz one target until its budget is spent, an input fails, or the process is too large."""
    with atheris.instrument_imports(include=["parser", "ingest.journal"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415  # its imports are what is instrumented
    target = TARGETS[name]
    budget = Budget(int(max_bytes), float(seconds))

    def try_one(data: bytes) -> None:
        try:
            tried = target.run(data)
        except Exception:  # noqa: BLE001  # whatever it is, it is what we look for
            budget.end(data, traceback.format_exc())
        budget.spend(tried)

    atheris.Setup([sys.argv[0], *options], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
