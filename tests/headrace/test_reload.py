"""SIGHUP: the configuration file is read anew, and taken over as far as it can be, or refused as a whole."""

import asyncio
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from structlog.typing import EventDict

from headrace import reload
from headrace.cli import main
from headrace.config import Config, decode_config, load_config
from headrace.errors import ConfigError
from headrace.reload import WHILE_RUNNING, Reloader, compare, values
from ingest.errors import ListenError
from tests.faults import processes
from tests.faults.harness import COMMAND, Server
from tests.faults.sender import record
from tests.faults.supplier import Mes
from tests.faults.waiting import wait_until

BINDING = {"tls_cert": "a.pem", "tls_key": "a.key", "tls_client_ca": "ca.pem", "bind_identity": True}
RUNNING = decode_config({"ingest": BINDING}, "a file")
CHANGED = decode_config(
    {
        "ingest": {
            **BINDING,
            "identities": {"gateway-1": ["E0001"]},
            "max_connections_per_address": 7,
            "max_connections_per_identity": 7,
            "max_connects_per_minute": 7,
            "max_records_per_s": 7.0,
            "max_bytes_per_s": 7.0,
            "first_record_timeout_s": 7.0,
            "record_timeout_s": 7.0,
            "keepalive_s": 7,
            "handshake_timeout_s": 7.0,
            "node_id": 1,
            "port": 1,
            "max_connections": 7,
            "idle_timeout_s": 7.5,
            "allow": ["10.0.0.0/8"],
        },
        "record": {"delimiter": ";", "limits": {"power_kw": [0.0, 5.0]}},
        "journal": {"path": "elsewhere", "max_bytes": 1 << 30, "keep_hours": 2.0},
        "storage": {"backend": "cassandra", "keep_days": 9.0, "rejects": {"rows": 9}},
        "http": {"https": True},
        "log": {"stderr_level": "error", "max_waiting": 9, "keep_days": {"INFO": 9.0}},
    },
    "a file",
)


def test_only_keys_that_there_are_can_change() -> None:
    """So that none is promised by a name that was given up."""
    assert {key for key, _ in values(Config())} >= WHILE_RUNNING


def test_every_key_counts_at_once_or_keeps_its_value() -> None:
    """One or the other; what is said of each is what happens to it."""
    running, wanted = dict(values(RUNNING)), dict(values(CHANGED))
    change = compare(RUNNING, CHANGED)
    assert dict(values(change.config)) == {
        key: (wanted if key in WHILE_RUNNING else running)[key] for key in running
    }
    differing = {key for key in running if running[key] != wanted[key]}
    assert differing >= WHILE_RUNNING, "this test changes every key that may change"
    assert len(change.taken) + len(change.needs_restart) == len(differing)
    assert change.taken == sorted(change.taken)
    assert "[record] limits" in change.taken
    assert "[storage.rejects] rows" in change.needs_restart


def test_a_file_that_changes_nothing_changes_nothing() -> None:
    """As most SIGHUPs are for certificates."""
    assert compare(CHANGED, CHANGED) == (CHANGED, [], [])


@pytest.mark.parametrize(("running", "wanted"), [(Config(), CHANGED), (CHANGED, Config())])
def test_lists_of_devices_wait_with_what_binds_them(running: Config, wanted: Config) -> None:
    """Else a gateway whose list is left out, as nobody is to be bound, would be refused until the restart."""
    change = compare(running, wanted)
    assert change.config.ingest.identities == running.ingest.identities
    assert change.config.ingest.idle_timeout_s == wanted.ingest.idle_timeout_s
    assert {"[ingest] bind_identity", "[ingest] identities"} <= set(change.needs_restart)


STEPS = st.lists(
    st.one_of(
        st.integers(1, 4).map(lambda most: f"[ingest]\nmax_connections = {most}\n"),
        st.integers(1, 4).map(lambda most: f"[ingest]\nmax_connections = {most}\nport = {most}\n"),
        st.integers(1, 4).map(lambda most: f"[ingest]\nmax_connections = {most}\nprot = 1\n"),
        st.just("[ingest"),
        st.none(),
    ),
    max_size=6,
)


@given(STEPS)
def test_whatever_comes_in_whatever_order_the_last_good_limits_count(steps: list[str | None]) -> None:
    """Wrong files and missing ones leave no trace, and a port never changes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        taken: list[Config] = []

        async def take(config: Config) -> None:
            taken.append(config)

        reloader = Reloader(path, Config(), take)
        most = Config().ingest.max_connections
        for step in steps:
            path.unlink(missing_ok=True)
            if step is not None:
                path.write_text(step)
            if step is not None and "prot" not in step and "]" in step:
                most = load_config(path).ingest.max_connections
            asyncio.run(reloader.reload())
            assert reloader.running.ingest.max_connections == most
            assert reloader.running.ingest.port == Config().ingest.port
            assert not taken or taken[-1] == reloader.running


def test_where_one_part_fails_nothing_is_taken(tmp_path: Path) -> None:
    """Whoever takes it over refuses, and the next file is compared with what really runs."""
    path = tmp_path / "config.toml"
    path.write_text("[ingest]\nmax_connections = 5\n")

    async def refuse(_: Config) -> None:
        raise ListenError("it can't be")

    reloader = Reloader(path, Config(), refuse)
    asyncio.run(reloader.reload())
    assert reloader.running == Config()


def test_limits_that_do_not_fit_what_stays_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file may be good, and what would run of both may not."""

    def fail(*_: object, **__: object) -> None:
        raise ValueError("max_connections: doesn't go with port")

    monkeypatch.setattr(msgspec.structs, "replace", fail)
    with pytest.raises(ConfigError, match="keeps its value until a restart"):
        compare(Config(), CHANGED)


def test_a_file_that_can_be_read_once_only_is_refused(tmp_path: Path) -> None:
    """At the start already: reading a pipe again would wait for ever."""
    pipe = tmp_path / "config.toml"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="no ordinary file"):
        load_config(pipe)


async def test_a_reload_that_does_not_end_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files may lie on a network that is away; who asks is not left without any word."""
    told, away = asyncio.Event(), asyncio.Event()

    async def take(_: Config) -> None:
        await away.wait()

    def tell(_: object, __: str, line: EventDict) -> EventDict:
        told.set()
        return line

    monkeypatch.setattr(reload, "LATE_S", 0.0)
    heard = asyncio.Event()
    heard.set()
    with capture_logs(processors=[tell]) as lines:
        async with reload.reloading(Reloader(None, Config(), take), heard):
            await asyncio.wait_for(told.wait(), 20)
            assert [line["event"] for line in lines] == ["configuration_not_read_yet"]
            told.clear()
            away.set()
            await asyncio.wait_for(told.wait(), 20)
    assert [line["event"] for line in lines] == ["configuration_not_read_yet", "configuration_changed"]


def test_limits_change_under_a_living_connection(server: Server) -> None:
    """Its next record is judged by the new ones, it stays, and a second connection is one too many."""
    server.start()
    with socket.create_connection(("127.0.0.1", server.ack_port), timeout=20) as machine:
        assert _sent(machine, 1) == b"ACK,1#"
        server.configure({"record.limits": {"spindle_speed_rpm": [0, 1]}, "ingest": {"max_connections": 1}})
        server.reload()
        changed = _answers(server, "configuration_changed", 1)[0]
        assert changed["taken"] == ["[ingest] max_connections", "[record] limits"]
        assert changed["needs_restart"] == []
        assert _sent(machine, 2) == b"ACK,2#"
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as second:
            assert second.recv(1) == b"", "it is closed at once"
    server.wait_drained()
    assert server.metric('headrace_records_stored_total{sink="tables"}') == 1
    assert server.metric('headrace_records_rejected_total{reason="implausible",sink="tables"}') == 1
    assert server.stop() == 0


def test_a_wrong_file_is_refused_as_a_whole(server: Server, tmp_path: Path) -> None:
    """With the words of `check-config`, or as it is gone: the old one stays until there is a good one."""
    server.start()
    good = server.config.read_text()
    limited = good.replace("[ingest]\n", "[ingest]\nmax_connections = 1\n")
    server.config.write_text(limited + "[web]\nport = 1\n")
    server.reload()
    refused = _answers(server, "configuration_refused", 1)[0]
    checked = CliRunner().invoke(main, ["check-config", "--config", str(server.config)])
    assert checked.stderr == f"headrace: {refused['reason']}\n"
    server.config.rename(tmp_path / "away.toml")
    server.reload()
    assert "No such file" in str(_answers(server, "configuration_refused", 2)[1]["reason"])
    with socket.create_connection(("127.0.0.1", server.ack_port), timeout=20) as first:
        assert _sent(first, 1) == b"ACK,1#"
        with socket.create_connection(("127.0.0.1", server.ack_port), timeout=20) as second:
            assert _sent(second, 1) == b"ACK,1#", "there is no limit of one"
    server.config.write_text(limited)
    server.reload()
    assert _answers(server, "configuration_changed", 1)[0]["taken"] == ["[ingest] max_connections"]
    assert server.stop() == 0


def test_what_needs_a_restart_is_said_each_time(server: Server) -> None:
    """It keeps its running value, and what may change in the same file is taken all the same."""
    server.start()
    server.configure({"ingest": {"node_id": 7}, "http": {"https": True}, "log": {"stderr_level": "warning"}})
    server.reload()
    (first,) = _answers(server, "configuration_changed", 1)
    server.reload()
    _, second = _answers(server, "configuration_changed", 2)
    assert first["taken"] == ["[log] stderr_level"]
    assert second["taken"] == []
    assert first["needs_restart"] == second["needs_restart"] == ["[http] https", "[ingest] node_id"]
    assert server.stop() == 0
    assert not server.said_event("stopped"), "what is below the level is not said any more"
    server.configure({})
    server.start()
    assert server.stop() == 0, "the journal is still that of node 0"


def test_hangups_during_start_and_end_are_harmless(server: Server) -> None:
    """From the moment on that the program can hear them until it is gone: it ends as it always does."""
    with _started(server) as process:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        wait_until(lambda: _hears(process.pid), "SIGHUP kills it no more", rest=0.001)
        out = process.stdout
        wait_until(lambda: _hung_up(process) and b"pages" in (out.read() or b""), "it is up")
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: not _hung_up(process), "it has ended", rest=0.001)
        assert process.returncode == 0, server.log.read_text()
    assert not server.said_event("configuration_refused")


def test_a_log_that_nobody_can_read_stops_nothing(server: Server) -> None:
    """As on a terminal that was closed, which is a SIGHUP too: it answers into the void, and goes on."""
    with _started(server, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        port = int(process.stdout.readline().rpartition(b":")[2])
        while b"pages" not in process.stdout.readline():
            assert process.poll() is None
        process.stderr.close()
        server.configure({"ingest": {"max_connections": 1}})
        process.send_signal(signal.SIGHUP)
        with socket.create_connection(("127.0.0.1", port), timeout=20):
            wait_until(lambda: _is_refused(port), "the limit counts")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_the_supplier_takes_no_notice(tmp_path: Path) -> None:
    """There is nothing to change; it goes on and ends in order."""
    mes = Mes(tmp_path)
    mes.configure()
    mes.start()
    try:
        assert mes.process is not None
        mes.process.send_signal(signal.SIGHUP)
        assert mes.ask("/api/v1/queue")["orders"] == []
        assert mes.end(signal.SIGTERM) == 0
    finally:
        mes.clean_up()


def _sent(machine: socket.socket, number: int) -> bytes:
    """Send one record; what is answered."""
    machine.sendall(record("cnc", number))
    return machine.recv(64)


def _answers(server: Server, event: str, count: int) -> list[dict[str, object]]:
    """So many lines of this event, when they are there."""

    def said() -> list[dict[str, object]]:
        return [line for line in server.said() if line["event"] == event]

    wait_until(lambda: len(said()) == count, f"{event} is said {count} times")
    return said()


def _is_refused(port: int) -> bool:
    """Whether a connection is closed before it has sent anything."""
    with socket.create_connection(("127.0.0.1", port), timeout=0.1) as machine:
        try:
            return machine.recv(1) == b""
        except TimeoutError:
            return False


def _hears(pid: int) -> bool:
    """Whether the process ignores SIGHUP or has something to do at it, instead of dying."""
    masks = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool((int(masks["SigIgn"], 16) | int(masks["SigCgt"], 16)) & 1 << signal.SIGHUP - 1)


def _hung_up(process: "subprocess.Popen[bytes]") -> bool:
    """Send SIGHUP; whether there was somebody to send it to."""
    process.send_signal(signal.SIGHUP)
    return process.poll() is None


@contextmanager
def _started(server: Server, stderr: int | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """A server that may not be up yet; it is gone afterwards, and what it has started."""
    words = [str(COMMAND), "serve", "--config", str(server.config), "--log-format", "json"]
    with server.log.open("a") as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=stderr or log)
    with process:
        try:
            yield process
        finally:
            left = [*processes.children(process.pid), process.pid] if process.poll() is None else []
            for pid in left:
                processes.kill(pid)
