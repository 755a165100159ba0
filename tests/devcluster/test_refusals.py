"""What is refused before anything starts: missing tools, folders and ports of others, wrong calls."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from devcluster import Cluster, jars, missing, tools
from devcluster.command import main
from devcluster.errors import FetchError, FolderError, PortError
from devcluster.ports import is_free, take_free
from devcluster.processes import Process, spawn
from tests.support.needing import need


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Java, Maven and jars; the folder that is its path."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(tools, "JVM_FOLDER", tmp_path / "jvm")
    return path


def program(path: Path, script: str) -> Path:
    """A program that does this."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def java(path: Path, version: str) -> Path:
    """Something that says it were this Java."""
    return program(path, f"echo 'openjdk version \"{version}\" 2025-04-15' >&2")


def call(*arguments: str | Path) -> Result:
    """The command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.usefixtures("bare")
def test_missing_tools_are_named_with_how_to_install_them(tmp_path: Path) -> None:
    """Exit status 2, and no folder is made."""
    assert "JDK 17 and Maven" in missing()
    assert missing().endswith("sudo apt-get install openjdk-17-jdk-headless maven")
    result = call("start", "--folder", tmp_path / "data")
    assert result.exit_code == 2
    assert result.output == f"{missing()}\n"
    assert not (tmp_path / "data").exists()


def test_java_is_found_in_all_its_places_if_it_is_17(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer default doesn't hide it."""
    java(bare / "java", "21.0.2")
    assert tools.find_java() is None
    installed = java(tmp_path / "jvm" / "java-17-openjdk" / "bin" / "java", "17.0.15")
    assert tools.find_java() == installed
    chosen = java(tmp_path / "mine" / "bin" / "java", "17.0.1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "mine"))
    assert tools.find_java() == chosen
    assert missing().endswith("apt-get install maven")


def test_maven_is_needed_only_until_the_jars_are_there(bare: Path) -> None:
    """They may have been brought from another machine."""
    java(bare / "java", "17.0.1")
    assert missing()
    jars.folder().mkdir(parents=True)
    assert not missing()


@pytest.mark.usefixtures("bare")
def test_an_interrupted_download_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first one left is not taken for complete, and gone."""
    monkeypatch.setenv("PATH", os.defpath)
    target = 'for word; do case "$word" in -DoutputDirectory=*) d="${word#*=}";; esac; done; mkdir -p "$d"'
    fails = program(tmp_path / "fails", f'{target}; touch "$d/half.jar"; echo no network; exit 1')
    with pytest.raises(FetchError, match="no network"):
        jars.fetch(fails, tmp_path)
    assert not jars.fetched()
    works = program(tmp_path / "works", f'{target}; touch "$d/jamm-{jars.JAMM}.jar"')
    folder = jars.fetch(works, tmp_path)
    assert [path.name for path in folder.iterdir()] == [f"jamm-{jars.JAMM}.jar"]
    assert jars.fetch(fails, tmp_path) == folder, "nothing is fetched twice"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["start", "--nodes", "0"], "--nodes"),
        (["start", "--port", "70000"], "--port"),
        (["start", "--nodes", "three"], "'three' is not a valid integer"),
        (["start", "--folder", __file__], "is a file"),
        (["restart"], "No such command 'restart'"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(arguments: list[str], says: str) -> None:
    """Exit status 2."""
    result = call(*arguments)
    assert result.exit_code == 2
    assert says in result.output


def test_stopping_what_never_ran_is_fine(tmp_path: Path) -> None:
    """Exit status 0, and no folder is made."""
    result = call("stop", "--folder", tmp_path / "data")
    assert result.exit_code == 0
    assert "no cluster" in result.output
    assert not (tmp_path / "data").exists()


def test_a_folder_keeps_its_nodes_and_ports(tmp_path: Path) -> None:
    """Data that belongs to one cluster is never given to another; the ports between nodes stay."""
    first = Cluster(tmp_path, nodes=3, port=0)
    first.prepare()
    again = Cluster(tmp_path, nodes=3, port=0)
    assert again.contact_points == ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    assert [node.settings for node in again.nodes] == [node.settings for node in first.nodes]
    with pytest.raises(FolderError, match="remove the folder, or take another"):
        Cluster(tmp_path)
    result = call("start", "--folder", tmp_path, "--nodes", "2")
    assert result.exit_code == 2
    assert "holds a cluster of 127.0.0.2, 127.0.0.3, 127.0.0.4" in result.output


@pytest.mark.cassandra
def test_a_port_of_somebody_else_is_named(tmp_path: Path) -> None:
    """Whoever listens there isn't taken for the node."""
    need(not missing(), missing())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not is_free("127.0.0.1", port)
        with pytest.raises(PortError, match=rf"127\.0\.0\.1:{port} .* taken"):
            Cluster(tmp_path, port=port).start()


def test_free_ports_are_not_those_of_outgoing_connections() -> None:
    """Nor is any that is used on one of the addresses."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = {take_free(["127.0.0.2", "127.0.0.3"]) for _ in range(20)}
    assert all(10_000 <= port < lowest for port in ports)


def test_a_process_is_never_mistaken_for_a_later_one_with_its_id(tmp_path: Path) -> None:
    """An id that was used again is somebody else's: it is neither seen as ours nor stopped."""
    ours = spawn(["/bin/sleep", "60"], tmp_path / "log")
    earlier = Process(ours.pid, ours.beginning - 1)
    assert not earlier.alive()
    assert earlier.wait_gone(0)
    earlier.send(signal.SIGKILL)
    assert ours.alive()
    ours.send(signal.SIGKILL)
    assert ours.wait_gone(10)
    assert not Path(f"/proc/{ours.pid}").exists()


def test_a_process_is_paused_only_when_it_stands_still(tmp_path: Path) -> None:
    """Told and not yet obeying is not enough: a node that still answers would spoil what follows."""
    ours = spawn([sys.executable, "-c", "while True: pass"], tmp_path / "log")
    try:
        assert not ours.wait_paused(0)
        ours.send(signal.SIGSTOP)
        assert ours.wait_paused(10)
    finally:
        ours.send(signal.SIGKILL)
        assert ours.wait_gone(10)
