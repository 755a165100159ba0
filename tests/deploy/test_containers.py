"""The compose file and the image: complete, closed to the outside, and free of secrets."""

import re
import subprocess
import sys
import tomllib
from itertools import takewhile
from pathlib import Path

import msgspec
import pytest

from headrace.config import load_config
from tests.deploy.files import DEPLOY, ROOT, compose, serves

IMAGE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
SERVICES = compose().services
FILES = [path for path in DEPLOY.rglob("*") if path.is_file() and path.name != ".env"]
SECRETS = ("HEADRACE_CASSANDRA_PASSWORD", "GF_SECURITY_ADMIN_PASSWORD")


def instruction(name: str) -> list[str]:
    """What each instruction of this name in the Dockerfile says."""
    joined = IMAGE.replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


def words(name: str) -> list[str]:
    """The words of the one instruction of this name."""
    (found,) = instruction(name)
    return msgspec.json.decode(found, type=list[str])


def test_compose_follows_its_specification() -> None:
    """A key or a value that compose doesn't know is refused; the schema comes with the checker."""
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"],
        cwd=DEPLOY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_mounts_is_there(name: str) -> None:
    """Files stand in the tree and are mounted read-only; volumes are declared."""
    for mount in SERVICES[name].volumes:
        source, _, target = mount.partition(":")
        if source.startswith("./"):
            assert (DEPLOY / source).exists(), source
            assert target.endswith(":ro"), mount
        else:
            assert source in compose().volumes, source


@pytest.mark.parametrize("name", SERVICES)
def test_only_the_port_of_the_machines_can_be_opened_to_others(name: str) -> None:
    """Every other port is bound to the loopback, and so is that one until somebody says otherwise."""
    for port in SERVICES[name].ports:
        assert port.startswith(("127.0.0.1:", "${HEADRACE_MACHINES:-127.0.0.1:9400}:")), port


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_comes_back_and_gains_no_privileges(name: str) -> None:
    """What ends by itself, the step that sets a password, stays away."""
    service = SERVICES[name]
    assert service.restart == ("no" if name == "cassandra-password" else "unless-stopped")
    assert "no-new-privileges:true" in service.security_opt
    assert service.cap_drop == ["ALL"] or name == "cassandra"  # it starts as root and steps down


def test_secrets_must_come_from_the_environment() -> None:
    """Compose refuses to start without them."""
    given = [
        value for service in SERVICES.values() for key, value in service.environment.items() if key in SECRETS
    ]
    assert len(given) == 3
    assert all(re.fullmatch(r"\$\{\w+:\?.*\}", value) for value in given), given


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_secret_stands_in_a_file(path: Path) -> None:
    """What is named like one gets its value from a variable, or has a place to fill in."""
    given = r"""(?i)\w*(?:password|secret|token)\w*["']?[ \t]*[:=][ \t]*["']?\w+"""
    assert not re.findall(given, path.read_text(encoding="utf-8"))


def test_every_image_is_pinned_to_a_version() -> None:
    """No tag that means something else tomorrow."""
    images = [service.image for service in SERVICES.values() if service.image]
    images += [line.split()[0] for line in instruction("FROM")]
    for image in images:
        assert re.fullmatch(r"[\w./-]+:v?\d[\w.-]*", image), image


def test_headrace_has_time_to_end_in_order() -> None:
    """The commit, the sink and a stuck disk take up to 45 s."""
    assert SERVICES["headrace"].stop_grace_period == "60s"
    assert instruction("STOPSIGNAL") == ["SIGTERM"]


def test_the_configuration_is_good_and_fits_the_compose_file() -> None:
    """It is reachable from the other containers, stores in Cassandra, and keeps its journal on the volume."""
    config = load_config(DEPLOY / "headrace.toml")
    assert (config.ingest.host, config.http.host) == ("0.0.0.0", "0.0.0.0")  # noqa: S104  # of the container
    assert (config.ingest.port, config.http.port) == (9400, 9480)
    assert config.storage.backend == "cassandra"
    assert config.storage.cassandra.contact_points == ("cassandra",)
    assert config.storage.cassandra.username is not None
    (volume,) = [mount for mount in SERVICES["headrace"].volumes if mount.startswith("headrace:")]
    assert config.journal.path.startswith(volume.partition(":")[2] + "/")


def test_the_image_starts_the_server_and_not_as_root() -> None:
    """With the configuration where compose mounts it; the probe asks the port that pages are on."""
    assert words("ENTRYPOINT") == ["headrace"]
    assert serves(words("CMD"))
    assert f"./headrace.toml:{words('CMD')[2]}:ro" in SERVICES["headrace"].volumes
    assert instruction("USER") == ["10001:10001"]
    assert "http://127.0.0.1:9480/healthz" in instruction("HEALTHCHECK")[0]


def test_the_image_installs_only_what_is_locked() -> None:
    """Everything from a registry comes with a hash, the project itself from the tree."""
    installs = [line for line in instruction("RUN") if "pip install" in line]
    assert len(installs) == 2
    assert "--require-hashes -r requirements/run.txt" in installs[0]
    assert "--no-deps --no-build-isolation ." in installs[1]


def test_every_package_reaches_the_builder() -> None:
    """What is built into the wheel, and what its metadata is read from; everything else stays outside."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    first = list(takewhile(lambda line: not line.startswith("!"), lines))
    allowed = {line[1:].removesuffix("/*.py") for line in lines if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert first[-1] == "*"
    assert packages | {"pyproject.toml", "README.md", "requirements/run.txt"} <= allowed
