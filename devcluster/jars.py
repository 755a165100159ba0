"""Cassandra's jars: fetched once for each user, by Maven, into the cache folder.

They go to a folder beside the final one, which is renamed into place when all are there: an interrupted
download leaves nothing that looks complete, and is begun again. Two programs that need them take turns.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from devcluster.errors import FetchError
from devcluster.files import locked

CASSANDRA: Final = "5.0.5"
JAMM: Final = "0.4.0"
"""The agent that measures what objects take of the heap; Cassandra wants it on its command line."""

_POM: Final = Path(__file__).with_name("pom.xml")


def folder() -> Path:
    """Where they are, or will be."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "headrace" / f"cassandra-{CASSANDRA}"


def agent(jars: Path) -> Path:
    """The jar for `-javaagent`."""
    return jars / f"jamm-{JAMM}.jar"


def fetched() -> bool:
    """Whether they are there; the folder exists only when it is complete."""
    return folder().is_dir()


def fetch(maven: Path, java_home: Path) -> Path:
    """The folder of the jars; about half a minute and 66 MB the first time. Raises FetchError."""
    target = folder()
    with locked(target.with_name(f"{target.name}.lock")):
        if not fetched():
            partial = target.with_name(f"{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            _copy(maven, java_home, partial)
            partial.rename(target)
    return target


def _copy(maven: Path, java_home: Path, target: Path) -> None:
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={target}"]
    versions = [f"-Dcassandra.version={CASSANDRA}", f"-Djamm.version={JAMM}"]
    done = subprocess.run(  # noqa: S603  # Maven as found on the path, and constants
        [maven, "-q", "-B", "-f", _POM, *goal, *versions],
        env={**os.environ, "JAVA_HOME": str(java_home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode or not agent(target).exists():
        raise FetchError(f"Maven could not fetch Cassandra {CASSANDRA}:\n{_tail(done.stdout)}")


def _tail(text: str, lines: int = 8) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])
