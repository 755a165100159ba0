"""`headrace db copy`, as an operator calls it: what can go wrong, and the server that goes on afterwards."""

import asyncio
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from headrace.config import load_config
from ingest.journal import Journal
from ingest.settings import JournalSettings
from storage.base import Reading
from storage.factory import open_books, open_store
from storage.reconcile import reconcile
from tests.faults.harness import COMMAND, Server
from tests.faults.sender import deliver, record
from tests.headrace.conftest import Call
from tests.support.cassandra import Cassandra

_MANY = 200_000
COPY = ("db", "copy", "--from", "sqlite", "--to", "cassandra")


@pytest.mark.parametrize(
    ("source", "target"), [("sqlite", "sqlite"), ("cassandra", "sqlite"), ("sqlite", "postgres")]
)
def test_only_one_direction_can_be_copied(call: Call, source: str, target: str) -> None:
    """Whoever asks for another is told which."""
    done = call("db", "copy", "--from", source, "--to", target)
    assert done.returncode == 2
    assert done.stderr == (
        f"headrace: --from {source} --to {target}: only --from sqlite --to cassandra can be copied\n"
    )


def test_without_a_database_there_is_nothing_to_copy(call: Call, server: Server) -> None:
    """The file that was looked for is named."""
    done = call(*COPY)
    assert done.returncode == 2
    assert str(server.tables) in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_its_journal_nobody_knows_whether_the_server_runs(call: Call, server: Server) -> None:
    """So nothing is copied; and no journal is made."""
    assert call("db", "init").returncode == 0
    done = call(*COPY)
    assert done.returncode == 2
    assert f"{server.journal}: holds no journal" in done.stderr
    assert not server.journal.exists()


def test_nothing_is_copied_while_the_server_runs(call: Call, server: Server) -> None:
    """It has the lock of its journal."""
    server.start()
    done = call(*COPY)
    assert done.returncode == 2
    assert f"{server.journal}: its server is running; stop it first" in done.stderr


def test_nothing_is_copied_while_a_worker_has_its_journal(call: Call, server: Server) -> None:
    """Whichever of them it is: all are looked at."""
    assert call("db", "init").returncode == 0
    for number in (0, 1):
        journal = Journal(JournalSettings(path=str(server.journal / f"worker-{number}")), number)
        if number == 0:
            journal.close()
    try:
        done = call(*COPY)
    finally:
        journal.close()
    assert done.returncode == 2
    assert "worker-1: its server is running; stop it first" in done.stderr


def test_a_cluster_that_is_not_there_can_be_tried_again(call: Call, server: Server) -> None:
    """It failed, and that is said in one line with what to do."""
    server.configure({"storage.cassandra": {"port": 1}})
    server.start()
    assert server.stop() == 0
    done = call(*COPY)
    assert done.returncode == 1
    assert "no node can be reached" in done.stderr
    assert "run the same command again" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.cassandra
def test_the_server_goes_on_where_it_was(server: Server, cassandra: Cassandra) -> None:
    """Interrupted, run again, and then the same journal on the cluster: nothing lost, nothing twice."""
    cluster = _cluster(cassandra)
    server.configure({"storage.cassandra": cluster})
    server.start()
    deliver(server.ack_port, record("E1", 1) + record("E2", 2) + b"no##", records=4)
    server.wait_drained()
    assert server.stop() == 0
    assert _interrupted(server.config) == 1
    done = _copy(server.config)
    assert done.returncode == 0, done.stderr
    assert "copied: 2 readings, 2 latest_readings, 1 rejected_records, 1 connections, 1 ledger" in done.stdout
    assert "received 4 = stored 2 + rejected 1 + unkept 0 + empty 1" in done.stdout
    assert 'backend = "cassandra"' in done.stdout
    server.configure({"storage.cassandra": cluster, "storage": {"backend": "cassandra"}})
    server.start()
    deliver(server.ack_port, record("E1", 3), records=1)
    server.wait_drained()
    assert server.stop() == 0
    assert [row.seq for row in asyncio.run(_history(server.config))] == [4, 0]
    with closing(open_books(load_config(server.config).storage)) as books:
        assert reconcile(books, waiting=0).findings == []
    again = _copy(server.config)
    assert again.returncode == 0, again.stderr
    assert "everything is copied already" in again.stdout


@pytest.mark.cassandra
def test_killed_at_any_moment_it_goes_on(server: Server, cassandra: Cassandra) -> None:
    """No row is missing in the end and none is twice, however often it was killed."""
    cluster = _cluster(cassandra)
    server.configure({"storage.cassandra": cluster})
    server.start()
    sent = b"".join(record(f"E{number % 40}", number) for number in range(_MANY))
    deliver(server.ack_port, sent, records=_MANY)
    server.wait_drained()
    assert server.stop() == 0
    killed = [_killed(server.config, after_s) for after_s in (1.5, 0.8, 2.5, 1.1, 2.0)]
    assert any(killed), "each time it was done before"
    assert _copy(server.config).returncode == 0
    server.configure({"storage.cassandra": cluster, "storage": {"backend": "cassandra"}})
    with closing(open_books(load_config(server.config).storage)) as books:
        found = reconcile(books, waiting=0)
    assert found.findings == []
    assert found.readings == found.stored == _MANY


def _cluster(cassandra: Cassandra) -> dict[str, object]:
    """How a configuration names it, with a keyspace that is not there yet."""
    return {
        "contact_points": cassandra.contact_points,
        "port": cassandra.port,
        "keyspace": cassandra.keyspace(),
    }


def _copy(config: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [COMMAND, *COPY, "--config", config], capture_output=True, text=True, timeout=200, check=False
    )


def _interrupted(config: Path) -> int:
    """Ctrl-C while the last rows are not yet there for good; the exit status."""
    command: list[str | Path] = [COMMAND, *COPY, "--config", config]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any(line.startswith("commit log: waiting") for line in process.stderr)
        process.send_signal(signal.SIGINT)
        assert "interrupted; what is copied stays; run the same command again" in process.stderr.read()
    return process.returncode


def _killed(config: Path, after_s: float) -> bool:
    """Kill a copy after so long; whether it was under way."""
    command: list[str | Path] = [COMMAND, *COPY, "--config", config]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            process.communicate(timeout=after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            return True
    return False


async def _history(config: Path) -> list[Reading]:
    store = open_store(load_config(config).storage)
    try:
        return await store.history("E1", 0, 1 << 62, limit=9)
    finally:
        await store.close()
