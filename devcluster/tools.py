"""The two programs it takes: Java 17, which Cassandra 5.0 runs on, and Maven, which fetches it once."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from devcluster import jars
from devcluster.errors import ToolsError

JAVA_VERSION = "17"
"""Cassandra 5.0 supports 11 and 17 and refuses newer ones; its flags here are those for 17."""

JVM_FOLDER = Path("/usr/lib/jvm")
"""Where distributions put every Java, also those that are not the default."""


def missing() -> str:
    """What has to be installed, and how; empty if all is there. With the jars fetched, Maven isn't needed."""
    lacking = {}
    if find_java() is None:
        lacking["JDK 17"] = "openjdk-17-jdk-headless"
    if not jars.fetched() and find_maven() is None:
        lacking["Maven"] = "maven"
    if not lacking:
        return ""
    return (
        f"Running Cassandra here needs {' and '.join(lacking)}. "
        f"On Debian 12 or Ubuntu: sudo apt-get install {' '.join(lacking.values())}"
    )


def require() -> tuple[Path, Path]:
    """The Java to run, and the folder with Cassandra's jars, fetched if they aren't there.

    Raises ToolsError or FetchError.
    """
    java = find_java()
    if java is None or missing():
        raise ToolsError(missing())
    maven = find_maven()
    return java, jars.folder() if maven is None else jars.fetch(maven, java.parent.parent)


def find_java() -> Path | None:
    """The first Java 17 of $JAVA_HOME, the path, and the distribution's folder."""
    return next((java for java in _candidates() if _version(java) == JAVA_VERSION), None)


def find_maven() -> Path | None:
    """Maven on the path."""
    found = shutil.which("mvn")
    return Path(found) if found else None


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if found := shutil.which("java"):
        yield Path(found).resolve()
    yield from sorted(JVM_FOLDER.glob(f"*{JAVA_VERSION}*/bin/java"))


@cache
def _version(java: Path) -> str:
    """The feature version, such as 17; empty where there is no Java that starts."""
    try:
        # The path is one of _candidates.
        said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return ""
    found = re.search(r'version "(\d+)', said.stderr)
    return found[1] if found else ""
